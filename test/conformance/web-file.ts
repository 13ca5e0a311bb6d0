import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { serveFile } from '../helpers/web-server.ts';
import { flatFile } from './subject.ts';
import type { Subject } from './subject.ts';

/** A flat file behind a web server of this process. */
export function webFile(name: string): Subject {
  const flat = flatFile({ name, driver: 'http', open: () => ({}) });
  return {
    name,
    driver: 'http',
    tools: [],
    can: { write: false, probe: false },
    async make(folder, content) {
      const { path = '' } = await flat.make(folder, content);
      const server = createServer((request, response) => {
        serveFile({ content, etag: '"a"' }, request, response);
      });
      server.unref().listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      return { path, options: { driver: 'http', url: `http://127.0.0.1:${port}/`, readahead: 65536 } };
    },
  };
}
