import type { ControlCommand } from './command.ts';
import { defineControlCommand } from './command.ts';
import { ControlSession } from './session.ts';
import type { ServerVersion } from './session.ts';

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
  connect(send: (line: string) => void): { session: ControlSession; close: () => void } {
    const session = new ControlSession({ version: this.version, commands: this.commands, send });
    this.sessions.add(session);
    const close = (): void => {
      this.sessions.delete(session);
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
    ];
  }
}
