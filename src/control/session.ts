import debug from 'debug';
import { CommandError, parseArguments } from './command.ts';
import type { ControlClient, ControlCommand } from './command.ts';
import { JsonSplitter } from './framing.ts';
import { parseJson, parseRequest, requestId } from './request.ts';

const log = debug('blockfuse:control');

/** Requests that one client may have waiting: past that the connection is not read. */
const MAX_WAITING = 64;
/** Descriptors that one client may have sent without a command that takes them. */
const MAX_DESCRIPTORS = 64;
const CAPABILITY = 'oob';

/** Major, minor, micro and how the program calls itself. */
export interface ServerVersion {
  readonly numbers: readonly [number, number, number];
  readonly program: string;
}

export interface SessionOptions {
  readonly version: ServerVersion;
  readonly commands: ReadonlyMap<string, ControlCommand>;
  /** Answers with line breaks, for people. */
  readonly pretty?: boolean;
  /** Hands one line to the client. */
  send(line: string): void;
  /** Gives back a descriptor that the client has sent and that nobody took. */
  closeDescriptor?(fd: number): void;
  /** Whether more requests may come: asked to stop while many wait. */
  accept?(more: boolean): void;
}

/**
 * One client of the control socket, speaking QMP: greeting, then `qmp_capabilities`, then commands, answered in
 * the order they came, but for those sent out of band. Knows no socket: text goes in by `receive`, lines come out by `send`.
 */
export class ControlSession implements ControlClient {
  private readonly options: SessionOptions;
  private readonly splitter = new JsonSplitter();
  private readonly descriptors: number[] = [];
  private negotiated = false;
  private outOfBand = false;
  private waiting = 0;
  private last: Promise<void> = Promise.resolve();
  /** Out of band, not answered yet. */
  private readonly aside = new Set<Promise<void>>();

  constructor(options: SessionOptions) {
    this.options = options;
    const [major, minor, micro] = options.version.numbers;
    const version = { qemu: { micro, minor, major }, package: options.version.program };
    this.send({ QMP: { version, capabilities: [CAPABILITY] } });
  }

  /**
   * `descriptors` came with the text and belong to the session. Throws a RangeError, having told the client why, when it
   * sends what can't be a request: close the connection then.
   */
  receive(text: string, descriptors: readonly number[] = []): void {
    for (const fd of descriptors) this.keepDescriptor(fd);
    try {
      for (const request of this.splitter.push(text)) this.take(request);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.send({ error: { class: 'GenericError', desc: `JSON parse error, ${why}` } });
      throw error;
    }
  }

  takeDescriptor(): number | undefined {
    return this.descriptors.shift();
  }

  /** Resolves when everything that was received is answered. */
  async finished(): Promise<void> {
    for (let last; last !== this.last;) {
      last = this.last;
      await last;
    }
    await Promise.all(this.aside);
  }

  /** The client is gone. */
  close(): void {
    for (const fd of this.descriptors.splice(0)) this.options.closeDescriptor?.(fd);
  }

  /** An event for this client; dropped before the negotiation, as QMP has it. */
  event(name: string, data: Readonly<Record<string, unknown>>): void {
    if (!this.negotiated) return;
    const now = Date.now();
    const timestamp = { seconds: Math.floor(now / 1000), microseconds: (now % 1000) * 1000 };
    this.send({ timestamp, event: name, data });
  }

  private take(text: string): void {
    if (this.outOfBand && text.includes('"exec-oob"') && isOutOfBand(text)) {
      const answering = this.answer(text).finally(() => this.aside.delete(answering));
      this.aside.add(answering);
      return;
    }
    this.waiting += 1;
    if (this.waiting === MAX_WAITING) this.options.accept?.(false);
    this.last = this.last.then(async () => {
      await this.answer(text);
      this.waiting -= 1;
      if (this.waiting === MAX_WAITING - 1) this.options.accept?.(true);
      // Others get their turn between the requests of one client.
      if (this.waiting > 0) await new Promise((resolve) => setImmediate(resolve));
    });
  }

  private keepDescriptor(fd: number): void {
    this.descriptors.push(fd);
    while (this.descriptors.length > MAX_DESCRIPTORS)
      this.options.closeDescriptor?.(this.descriptors.shift() ?? -1);
  }

  private async answer(text: string): Promise<void> {
    let id: { id: unknown } | undefined;
    try {
      const value = parseJson(text);
      id = requestId(value);
      this.send({ return: (await this.execute(value)) ?? {}, ...id });
    } catch (error) {
      const errorClass = error instanceof CommandError ? error.errorClass : 'GenericError';
      const desc = error instanceof Error ? error.message : String(error);
      this.send({ ...id, error: { class: errorClass, desc } });
    }
  }

  private async execute(value: unknown): Promise<unknown> {
    const request = parseRequest(value, this.outOfBand);
    const { name } = request;
    log('execute %s', name);
    if (name === 'qmp_capabilities') return this.negotiate(request.arguments);
    const command = this.negotiated ? this.options.commands.get(name) : undefined;
    if (command === undefined) throw new CommandError('CommandNotFound', this.notFound(name));
    return command.run(parseArguments(command, request.arguments), this);
  }

  private negotiate(given: unknown): object {
    if (this.negotiated) {
      const text = 'Capabilities negotiation is already complete, command ignored';
      throw new CommandError('CommandNotFound', text);
    }
    const wanted: unknown =
      typeof given === 'object' && given !== null && 'enable' in given ? given.enable : [];
    if (!Array.isArray(wanted))
      throw new CommandError('GenericError', "Invalid parameter type for 'enable', expected: array");
    const unknown: unknown = wanted.find((capability) => capability !== CAPABILITY);
    if (unknown !== undefined)
      throw new CommandError(
        'GenericError',
        `Parameter 'enable' does not accept value ${JSON.stringify(unknown)}`,
      );
    this.negotiated = true;
    this.outOfBand = wanted.length > 0;
    return {};
  }

  private notFound(name: string): string {
    if (this.negotiated) return `The command ${name} has not been found`;
    return "Expecting capabilities negotiation with 'qmp_capabilities'";
  }

  private send(value: object): void {
    const text = JSON.stringify(value, undefined, this.options.pretty === true ? 4 : undefined);
    this.options.send(`${text}\r\n`);
  }
}

function isOutOfBand(text: string): boolean {
  try {
    return parseRequest(parseJson(text), true).outOfBand;
  } catch {
    return false;
  }
}
