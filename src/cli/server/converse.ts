import type { ControlServer } from '../../control/server.ts';
import type { ConnectionListener, ControlConnection } from '../../sys/control-connection.ts';
import { closeDescriptor } from '../../sys/sockets.ts';

/** Puts a session behind a connection. */
export function converse(
  control: ControlServer,
  connection: Pick<ControlConnection, 'send' | 'accept'>,
  pretty = false,
): ConnectionListener {
  const { session, close } = control.connect({
    send: (text) => {
      connection.send(text);
    },
    accept: (more) => {
      connection.accept(more);
    },
    closeDescriptor,
    pretty,
  });
  return {
    receive: (text, descriptors) => {
      session.receive(text, descriptors);
    },
    finished: () => session.finished(),
    closed: close,
  };
}
