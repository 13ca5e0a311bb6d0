import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { program } from './program.ts';
import { tempDir } from './temp-dir.ts';
import { HANG_MS, until } from './until.ts';

export interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly id?: unknown;
}

export interface Event {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

/** One connection that speaks QMP. Events are kept as they come. */
export class QmpClient {
  readonly events: Event[] = [];
  readonly socket: Socket;
  /** The first line that came. */
  greeting: unknown = undefined;
  private readonly waiting: ((answer: Answer) => void)[] = [];
  private readonly ended: Promise<unknown>;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.ended = once(socket, 'close');
    this.ended.catch(() => undefined);
    socket.on('error', () => undefined);
    const lines = createInterface({ input: socket });
    lines.on('line', (line) => {
      this.take(JSON.parse(line) as Answer | Event);
    });
    // Of a connection that breaks: `closed` tells.
    lines.on('error', () => undefined);
  }

  static async connect(t: ExecutionContext, path: string, negotiate = true): Promise<QmpClient> {
    const client = await QmpClient.reach(path);
    t.teardown(() => client.socket.destroy());
    if (negotiate) await client.run('qmp_capabilities');
    return client;
  }

  /** The socket of a server that starts is there before it listens. */
  private static async reach(path: string): Promise<QmpClient> {
    for (const end = performance.now() + HANG_MS; ; await sleep(10)) {
      const socket = connect(path);
      const client = new QmpClient(socket);
      try {
        await once(socket, 'connect');
        return client;
      } catch (error) {
        if (performance.now() > end) throw error;
      }
    }
  }

  /** Sends text as it is and resolves to the next answer. */
  raw(text: string): Promise<Answer> {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.socket.write(text);
    });
  }

  ask(execute: string, given?: object): Promise<Answer> {
    return this.raw(JSON.stringify({ execute, ...(given === undefined ? {} : { arguments: given }) }));
  }

  /** Runs a command that must succeed. */
  async run(execute: string, given?: object): Promise<unknown> {
    const { error, return: answer } = await this.ask(execute, given);
    if (error !== undefined) throw new Error(`${execute}: ${error.desc}`);
    return answer;
  }

  /** Runs a command that must fail; the text of its error. */
  async refused(execute: string, given?: object): Promise<string> {
    const { error } = await this.ask(execute, given);
    if (error === undefined) throw new Error(`${execute} was not refused`);
    return error.desc;
  }

  /** Waits for an event and takes it out. */
  async event(name: string): Promise<Event['data']> {
    const place = (): number => this.events.findIndex(({ event }) => event === name);
    await until(() => place() >= 0, `event ${name}`);
    return this.events.splice(place(), 1)[0]?.data ?? {};
  }

  async closed(): Promise<void> {
    await this.ended;
  }

  private take(message: Answer | Event): void {
    if ('event' in message) this.events.push(message);
    else if ('QMP' in message) this.greeting = message;
    else this.waiting.shift()?.(message);
  }
}

export interface Served {
  readonly child: ChildProcess;
  readonly folder: string;
  readonly socket: string;
  readonly client: QmpClient;
  /** What it has printed so far. */
  stderr(): string;
  /** Resolves to the exit code. */
  ended(): Promise<number | null>;
}

/** `blockfuse serve` with a monitor on a socket, for the rest of the test. */
export async function serve(t: ExecutionContext, args: readonly string[] = []): Promise<Served> {
  const folder = await tempDir(t);
  const socket = join(folder, 'qmp.sock');
  const monitor = ['--chardev', `socket,path=${socket},server=on,wait=off,id=qmp`, '--monitor', 'qmp'];
  const child = spawn(process.execPath, [program(), 'serve', ...args, ...monitor], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ending = once(child, 'exit') as Promise<[number | null]>;
  t.teardown(async () => {
    child.kill('SIGTERM');
    await ending;
  });
  let stderr = '';
  child.stderr.on('data', (text: Buffer) => {
    stderr += text.toString();
  });
  while (!existsSync(socket)) {
    if (child.exitCode !== null) throw new Error(`serve ended: ${stderr}`);
    await sleep(5);
  }
  const client = await QmpClient.connect(t, socket);
  return {
    child,
    folder,
    socket,
    client,
    stderr: () => stderr,
    ended: async () => (await ending)[0],
  };
}
