import { join } from 'node:path';
import { startNbdkit } from '../helpers/nbd-server.ts';
import { flatFile } from './subject.ts';
import type { Subject } from './subject.ts';

/** A flat file behind nbdkit. The server ends with the process of the tests. */
export function nbdExport(name: string): Subject {
  const flat = flatFile({ name, driver: 'nbd', open: () => ({}) });
  return {
    ...flat,
    tools: ['nbdkit'],
    can: { probe: false },
    async make(folder, content) {
      const { path = '' } = await flat.make(folder, content);
      const { socket } = await startNbdkit(join(folder, 'nbd'), ['file', path]);
      return { path, options: { driver: 'nbd', 'server.path': socket } };
    },
  };
}
