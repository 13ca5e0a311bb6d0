import type { ControlCommand } from './command.ts';
import { defineControlCommand } from './command.ts';
import { introspect } from './introspect.ts';
import { ControlSession } from './session.ts';
import type { ServerVersion, SessionOptions } from './session.ts';

/** What a session needs of its connection. */
export type Connection = Omit<SessionOptions, 'version' | 'commands'>;

/** All sessions of one server, and the commands that they share. */
export class ControlServer {
  private readonly version: ServerVersion;
  private readonly commands = new Map<string, ControlCommand>();
  private readonly sessions = new Set<ControlSession>();

  constructor(version: ServerVersion, commands: readonly ControlCommand[]) {
    this.version = version;
    for (const command of [...commands, ...this.ownCommands()]) this.commands.set(command.name, command);
  }

  /** A client came: feed what it sends to the session, and call `close` when it goes. */
  connect(connection: Connection | ((line: string) => void)): {
    session: ControlSession;
    close: () => void;
  } {
    const given = typeof connection === 'function' ? { send: connection } : connection;
    const session = new ControlSession({ ...given, version: this.version, commands: this.commands });
    this.sessions.add(session);
    const close = (): void => {
      this.sessions.delete(session);
      session.close();
    };
    return { session, close };
  }

  /** Tells every client that has negotiated. */
  event(name: string, data: Readonly<Record<string, unknown>>): void {
    for (const session of this.sessions) session.event(name, data);
  }

  private ownCommands(): ControlCommand[] {
    const names = async (): Promise<unknown> => [...this.commands.keys()].sort().map((name) => ({ name }));
    const version = async (): Promise<unknown> => {
      const [major, minor, micro] = this.version.numbers;
      return { qemu: { micro, minor, major }, package: this.version.program };
    };
    return [
      defineControlCommand({
        name: 'query-commands',
        summary: 'Lists the commands',
        arguments: {},
        run: names,
      }),
      defineControlCommand({
        name: 'query-version',
        summary: 'Tells the version',
        arguments: {},
        run: version,
      }),
      defineControlCommand({
        name: 'query-qmp-schema',
        summary: 'Tells what every command takes, in the form of QAPI introspection',
        arguments: {},
        run: async () => introspect([...this.commands.values()]),
      }),
    ];
  }
}
