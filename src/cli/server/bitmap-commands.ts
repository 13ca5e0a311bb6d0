import { dirtyExtents } from '../../block/dirty-extents.ts';
import type { DirtyExtent } from '../../block/dirty-extents.ts';
import { integer, optional, text } from '../../block/schema.ts';
import { bitmapsOfDisk } from '../bitmaps-of-disk.ts';
import { CommandError, defineControlCommand } from '../../control/command.ts';
import type { ControlCommand } from '../../control/command.ts';
import { bitmapOf, findNode } from '../../control/lookup.ts';
import { BITMAP_LIST, BITMAP_SHOW } from './command-names.ts';
import type { Server } from './server.ts';

/** Extents of one answer. */
const EXTENTS_MAX = 4096;

/** One answer of many: the next begins at `next`. */
export interface ShownExtents {
  readonly extents: readonly DirtyExtent[];
  readonly next?: number;
}

/** What QEMU's command names do not have. */
export function bitmapCommands({ graph }: Server): readonly ControlCommand[] {
  return [
    defineControlCommand({
      name: BITMAP_LIST,
      summary: 'Lists the dirty bitmaps of a disk, those of filters above its image too',
      arguments: { device: text('Node') },
      run: async ({ device }) => bitmapsOfDisk(findNode(graph, { device })),
    }),
    defineControlCommand({
      name: BITMAP_SHOW,
      summary: 'Tells which parts of a disk a bitmap says are dirty, some thousand extents at a time',
      arguments: {
        node: text('Node'),
        name: text('Name of the bitmap'),
        offset: optional(integer('Where to begin'), 0),
      },
      run: async ({ node, name, offset }) => {
        const bitmap = bitmapOf(findNode(graph, { 'node-name': node }), name);
        if (bitmap.inconsistent)
          throw new CommandError('GenericError', `Bitmap '${name}' is inconsistent and cannot be used`);
        const extents: DirtyExtent[] = [];
        for (const extent of dirtyExtents(bitmap, offset)) {
          if (extents.length === EXTENTS_MAX) return { extents, next: extent.start } satisfies ShownExtents;
          extents.push(extent);
        }
        return { extents } satisfies ShownExtents;
      },
    }),
  ];
}
