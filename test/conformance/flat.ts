import { HOST_DEVICE, RAW_WINDOW } from './host.ts';
import { nbdExport } from './nbd-export.ts';
import { flatFile } from './subject.ts';
import type { Subject } from './subject.ts';
import { webFile } from './web-file.ts';

/** Protocols, and raw. */
export const FLAT: readonly Subject[] = [
  {
    name: 'mem',
    driver: 'mem',
    tools: [],
    can: { grow: true, shrink: true, reopen: false, probe: false },
    make: (_folder, content) => Promise.resolve({ options: { driver: 'mem', size: content.length } }),
  },
  nbdExport('nbd'),
  webFile('http'),
  flatFile({ name: 'file', driver: 'file', open: (filename) => ({ driver: 'file', filename }) }),
  flatFile({
    name: 'file with cache.direct',
    driver: 'file',
    open: (filename) => ({ driver: 'file', filename, cache: { direct: true } }),
  }),
  flatFile({
    name: 'raw',
    driver: 'raw',
    open: (filename) => ({ driver: 'raw', file: { driver: 'file', filename } }),
  }),
  RAW_WINDOW,
  HOST_DEVICE,
];
