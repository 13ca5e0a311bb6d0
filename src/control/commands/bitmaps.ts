import * as v from 'valibot';
import { bool, integer, list, optional, text } from '../../block/schema.ts';
import { runActions } from '../actions/action.ts';
import type { Action } from '../actions/action.ts';
import { addBitmap, clearBitmap, enableBitmap, mergeBitmaps, removeBitmap } from '../actions/bitmap.ts';
import { defineControlCommand } from '../command.ts';
import type { ControlCommand } from '../command.ts';
import type { ControlHost } from '../host.ts';

export const BITMAP = { node: text('Node'), name: text('Name of the bitmap') } as const;

export const NEW_BITMAP = {
  ...BITMAP,
  granularity: optional(integer('Bytes that one bit stands for, a power of two')),
  persistent: optional(bool('Store it in the image when that is closed'), false),
  disabled: optional(bool('Note nothing until it is enabled'), false),
} as const;

export const MERGE = {
  node: text('Node of the target'),
  target: text('Bitmap that gets what the others have'),
  bitmaps: list(v.union([v.string(), v.strictObject(BITMAP)]), 'Names, of other nodes with their node'),
} as const;

/** Dirty bitmaps of nodes. */
export function bitmapCommands({ graph }: ControlHost): readonly ControlCommand[] {
  const run = (action: Action): Promise<void> => runActions(graph, [action]);
  return [
    defineControlCommand({
      name: 'block-dirty-bitmap-add',
      summary: 'Begins to note which parts of a node are written',
      arguments: NEW_BITMAP,
      run: (given) => run(addBitmap(graph, given)),
    }),
    defineControlCommand({
      name: 'block-dirty-bitmap-remove',
      summary: 'Removes a bitmap',
      arguments: BITMAP,
      run: (given) => run(removeBitmap(graph, given)),
    }),
    defineControlCommand({
      name: 'block-dirty-bitmap-clear',
      summary: 'Makes a bitmap empty',
      arguments: BITMAP,
      run: (given) => run(clearBitmap(graph, given)),
    }),
    defineControlCommand({
      name: 'block-dirty-bitmap-enable',
      summary: 'Makes a bitmap note writes',
      arguments: BITMAP,
      run: (given) => run(enableBitmap(graph, given, true)),
    }),
    defineControlCommand({
      name: 'block-dirty-bitmap-disable',
      summary: 'Makes a bitmap note writes no more',
      arguments: BITMAP,
      run: (given) => run(enableBitmap(graph, given, false)),
    }),
    defineControlCommand({
      name: 'block-dirty-bitmap-merge',
      summary: 'Adds to a bitmap what others have',
      arguments: MERGE,
      run: (given) => run(mergeBitmaps(graph, given)),
    }),
  ];
}
