import path from 'node:path';
import type { ExportOptions } from '../../control/host.ts';
import type { ExportSpec } from './messages.ts';

/** What QEMU's options of an export mean here. */
export function exportSpec(options: ExportOptions): ExportSpec {
  return {
    id: options.id,
    nodeName: options['node-name'],
    mountpoint: path.resolve(options.mountpoint),
    writable: options.writable,
    growable: options.growable,
    allowOther: options['allow-other'],
    writeThrough: options.writethrough,
    passthrough: options.passthrough,
    mountWords: [],
  };
}
