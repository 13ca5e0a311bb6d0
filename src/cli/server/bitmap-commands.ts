import { dirtyExtents } from '../../block/dirty-extents.ts';
import type { DirtyExtent } from '../../block/dirty-extents.ts';
import { bool, integer, optional, text } from '../../block/schema.ts';
import { bitmapsOfDisk } from '../bitmaps-of-disk.ts';
import { runActions } from '../../control/actions/action.ts';
import { addBitmap, noteSnapshotChanges } from '../../control/actions/bitmap.ts';
import { CommandError, defineControlCommand } from '../../control/command.ts';
import type { ControlCommand } from '../../control/command.ts';
import { bitmapOf, findNode } from '../../control/lookup.ts';
import { BITMAP_ADD_SINCE, BITMAP_LIST, BITMAP_SHOW } from './command-names.ts';
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
      name: BITMAP_ADD_SINCE,
      summary: 'Adds a dirty bitmap of what has changed since a snapshot inside the image was taken',
      arguments: {
        node: text('Node'),
        name: text('Name of the bitmap'),
        granularity: optional(integer('Bytes of one bit')),
        disabled: optional(bool('Notes nothing more'), false),
        since: text('Id or name of the snapshot'),
        until: optional(text('Id or name of a later one; now when left out')),
      },
      run: async ({ since, until, ...given }) => {
        const { node, name } = given;
        const changes = noteSnapshotChanges(graph, { node, name, since, until });
        await runActions(graph, [addBitmap(graph, { ...given, persistent: true }), changes]);
        return {};
      },
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
