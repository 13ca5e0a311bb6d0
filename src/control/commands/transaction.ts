import * as v from 'valibot';
import { choice, list, optional } from '../../block/schema.ts';
import type { OptionEntries, OptionsOf } from '../../block/schema.ts';
import type { Graph } from '../../block/graph.ts';
import { runActions } from '../actions/action.ts';
import type { Action } from '../actions/action.ts';
import { addBitmap, clearBitmap, enableBitmap, mergeBitmaps, removeBitmap } from '../actions/bitmap.ts';
import { internalSnapshot } from '../actions/internal-snapshot.ts';
import { snapshotFile, snapshotOverlay } from '../actions/overlay.ts';
import { CommandError, defineControlCommand } from '../command.ts';
import type { ControlCommand } from '../command.ts';
import type { ControlHost } from '../host.ts';
import { refuseOtherTypes, wrongArgument } from '../wrong-argument.ts';
import { BITMAP, MERGE, NEW_BITMAP } from './bitmaps.ts';
import { INTERNAL, OVERLAY, SNAPSHOT_FILE } from './snapshots.ts';

type Make = (host: ControlHost, data: object, index: number) => Action;

function kind<const Entries extends OptionEntries>(
  entries: Entries,
  make: (host: ControlHost, given: OptionsOf<Entries>) => Action,
): Make {
  return (host, data, index) => {
    refuseOtherTypes(entries, data);
    const result = v.safeParse(v.strictObject(entries), data);
    if (!result.success)
      throw new CommandError(
        'GenericError',
        wrongArgument(result.issues[0], entries, ['actions', index, 'data']),
      );
    return make(host, result.output as unknown as OptionsOf<Entries>);
  };
}

const KINDS = {
  abort: kind({}, abort),
  'blockdev-snapshot': kind(OVERLAY, snapshotOverlay),
  'blockdev-snapshot-sync': kind(SNAPSHOT_FILE, snapshotFile),
  'blockdev-snapshot-internal-sync': kind(INTERNAL, ({ graph }, given) => internalSnapshot(graph, given)),
  'block-dirty-bitmap-add': kind(NEW_BITMAP, ({ graph }, given) => addBitmap(graph, given)),
  'block-dirty-bitmap-remove': kind(BITMAP, ({ graph }, given) => removeBitmap(graph, given)),
  'block-dirty-bitmap-clear': kind(BITMAP, ({ graph }, given) => clearBitmap(graph, given)),
  'block-dirty-bitmap-enable': kind(BITMAP, ({ graph }, given) => enableBitmap(graph, given, true)),
  'block-dirty-bitmap-disable': kind(BITMAP, ({ graph }, given) => enableBitmap(graph, given, false)),
  'block-dirty-bitmap-merge': kind(MERGE, ({ graph }, given) => mergeBitmaps(graph, given)),
} as const satisfies Readonly<Record<string, Make>>;

const NAMES = Object.keys(KINDS) as (keyof typeof KINDS)[];
const ACTION = v.strictObject({
  type: choice(NAMES, 'What to do'),
  data: v.record(v.string(), v.unknown()),
});

/** Several changes of the graph at one point of time, all or none. */
export function transactionCommand(host: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'transaction',
    summary: 'Does several things at one point of time, all of them or none',
    arguments: {
      actions: list(ACTION, 'What to do, each as its command takes it'),
      properties: optional(
        v.strictObject({
          'completion-mode': optional(choice(['individual', 'grouped'], 'How jobs end'), 'individual'),
        }),
      ),
    },
    run: async ({ actions }) => {
      const made = actions.map(({ type, data }, index) => KINDS[type](host, data, index));
      await runActions(host.graph, made);
    },
  });
}

/** For tests of clients: fails when all before it has been done. */
function abort(_host: { readonly graph: Graph }): Action {
  return {
    prepare: async () => [],
    apply: () => {
      throw new CommandError('GenericError', 'Transaction aborted using Abort action');
    },
    undo: () => undefined,
  };
}
