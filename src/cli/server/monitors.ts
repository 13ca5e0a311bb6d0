import { BlockError } from '../../block/errors.ts';
import type { ControlServer } from '../../control/server.ts';
import { connectConversation, listenControl, listenOn } from '../../sys/control-socket.ts';
import type { ControlListener, StartConversation } from '../../sys/control-socket.ts';
import type { Chardev } from './messages.ts';
import { converse } from './converse.ts';

/** The connections that the user has asked for, and QMP on them. */
export class Monitors {
  private readonly control: ControlServer;
  private readonly chardevs = new Map<string, Chardev>();
  private readonly open: Pick<ControlListener, 'close'>[] = [];

  constructor(control: ControlServer) {
    this.control = control;
  }

  addChardev(chardev: Chardev): void {
    if (this.chardevs.has(chardev.id))
      throw new BlockError(
        'EEXIST',
        `Cannot make chardev "${chardev.id}": there is one with that id already`,
      );
    this.chardevs.set(chardev.id, chardev);
  }

  /** Speaks QMP on a connection; resolves when it is open, and has a client where that is asked for. */
  async addMonitor(id: string, pretty: boolean): Promise<void> {
    const chardev = this.chardevs.get(id);
    if (chardev === undefined)
      throw new BlockError('ENOENT', `Cannot use chardev "${id}": chardev "${id}" not found`);
    this.chardevs.delete(id);
    const start: StartConversation = (connection) => converse(this.control, connection, pretty);
    if (chardev.backend === 'stdio') {
      this.open.push(converseOnStdio(this.control, pretty));
      return;
    }
    const { path = '', fd, server, wait } = chardev;
    if (!server) {
      const connection = connectConversation(path, start);
      this.open.push({ close: async () => connection.close() });
      return;
    }
    const listener = fd === undefined ? listenControl(path, start) : listenOn(fd, start);
    this.open.push(listener);
    if (wait) await listener.firstClient;
  }

  async close(): Promise<void> {
    for (const each of this.open.splice(0)) await each.close();
  }
}

function converseOnStdio(control: ControlServer, pretty: boolean): { close: () => Promise<void> } {
  const { stdin, stdout } = process;
  const conversation = converse(
    control,
    {
      send: (text) => {
        stdout.write(text);
      },
      accept: (more) => {
        if (more) stdin.resume();
        else stdin.pause();
      },
    },
    pretty,
  );
  stdin.setEncoding('utf8');
  stdin.on('data', (text: string) => {
    try {
      conversation.receive(text, []);
    } catch {
      stdin.destroy();
    }
  });
  return {
    close: async () => {
      conversation.closed();
      stdin.destroy();
      await new Promise<void>((resolve) => {
        stdout.write('', () => {
          resolve();
        });
      });
    },
  };
}
