import debug from 'debug';
import { CommandError, parseArguments } from './command.ts';
import type { ControlCommand } from './command.ts';
import { JsonSplitter } from './framing.ts';

const log = debug('blockfuse:control');

/** Major, minor, micro and how the program calls itself. */
export interface ServerVersion {
  readonly numbers: readonly [number, number, number];
  readonly program: string;
}

export interface SessionOptions {
  readonly version: ServerVersion;
  readonly commands: ReadonlyMap<string, ControlCommand>;
  /** Hands one line to the client. */
  send(line: string): void;
}

/**
 * One client of the control socket, speaking QMP: greeting, then `qmp_capabilities`, then commands, answered in
 * the order they came. Knows no socket: text goes in by `receive`, lines come out by `send`.
 */
export class ControlSession {
  private readonly options: SessionOptions;
  private readonly splitter = new JsonSplitter();
  private negotiated = false;
  private last: Promise<void> = Promise.resolve();

  constructor(options: SessionOptions) {
    this.options = options;
    const [major, minor, micro] = options.version.numbers;
    const version = { qemu: { micro, minor, major }, package: options.version.program };
    this.send({ QMP: { version, capabilities: [] } });
  }

  /** Throws a RangeError when the client sends what can't be a request: close the connection then. */
  receive(text: string): void {
    for (const request of this.splitter.push(text)) {
      this.last = this.last.then(() => this.answer(request));
    }
  }

  /** An event for this client; dropped before the negotiation, as QMP has it. */
  event(name: string, data: Readonly<Record<string, unknown>>): void {
    if (!this.negotiated) return;
    const now = Date.now();
    const timestamp = { seconds: Math.floor(now / 1000), microseconds: (now % 1000) * 1000 };
    this.send({ timestamp, event: name, data });
  }

  private async answer(text: string): Promise<void> {
    const request = parseRequest(text);
    const id = request !== undefined && 'id' in request ? { id: request['id'] } : {};
    try {
      this.send({ return: await this.execute(request), ...id });
    } catch (error) {
      const errorClass = error instanceof CommandError ? error.errorClass : 'GenericError';
      const desc = error instanceof Error ? error.message : String(error);
      this.send({ error: { class: errorClass, desc }, ...id });
    }
  }

  private async execute(request: Readonly<Record<string, unknown>> | undefined): Promise<unknown> {
    if (request === undefined) throw new CommandError('GenericError', 'Invalid JSON syntax');
    const name = request['execute'];
    if (typeof name !== 'string') throw new CommandError('GenericError', "QMP input lacks member 'execute'");
    log('execute %s', name);
    if (name === 'qmp_capabilities') return this.negotiate();
    const command = this.negotiated ? this.options.commands.get(name) : undefined;
    if (command === undefined) throw new CommandError('CommandNotFound', this.notFound(name));
    return command.run(parseArguments(command, request['arguments']));
  }

  private negotiate(): object {
    if (this.negotiated)
      throw new CommandError('CommandNotFound', 'Capabilities negotiation is already complete');
    this.negotiated = true;
    return {};
  }

  private notFound(name: string): string {
    if (this.negotiated) return `The command ${name} has not been found`;
    return "Expecting capabilities negotiation with 'qmp_capabilities'";
  }

  private send(value: object): void {
    this.options.send(`${JSON.stringify(value)}\r\n`);
  }
}

function parseRequest(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
