/** What each kind of step takes: the command line and files are read by it, and the published schema is made from it. */
import * as v from 'valibot';
import { isTree } from '../../block/options.ts';
import type { OptionEntries } from '../../block/schema.ts';
import { bool, choice, integer, optional, text } from '../../block/schema.ts';
import { EXPORT_OPTIONS } from '../../control/commands/exports.ts';

export const FD_OPTIONS = {
  fd: integer('Number of the descriptor'),
  set: integer('Set that it goes into: /dev/fdset/SET'),
  opaque: optional(text('What query-fdsets is to tell about it')),
} as const satisfies OptionEntries;

export const CHARDEV_OPTIONS = {
  backend: choice(['socket', 'stdio'], 'Kind of connection'),
  id: text('Name of the connection'),
  path: optional(text('Path of the unix socket')),
  fd: optional(
    text('A socket that this process was started with: its number, or its name in LISTEN_FDNAMES'),
  ),
  server: optional(bool('Listen; else connect'), false),
  wait: optional(bool('Wait for the first client before anything else is done; default on'), true),
} as const satisfies OptionEntries;

export const MONITOR_OPTIONS = {
  chardev: text('Name of the connection'),
  mode: optional(choice(['control'], 'QMP, which is the only one'), 'control'),
  pretty: optional(bool('Answers with line breaks'), false),
} as const satisfies OptionEntries;

export const OBJECT_OPTIONS = {
  'qom-type': text('Type of the object'),
  id: text('Its id'),
} as const satisfies OptionEntries;

export const BLOCKDEV_OPTIONS = {
  driver: text('Driver of the node'),
  'node-name': optional(text('Name of the node')),
  snapshot: optional(bool('Writes go to a temporary file, which is gone when the server is'), false),
} as const satisfies OptionEntries;

/** By the name of the option; each with the key that its first word stands for. */
export const KINDS = {
  'add-fd': { entries: FD_OPTIONS, implied: 'fd', open: false },
  object: { entries: OBJECT_OPTIONS, implied: 'qom-type', open: true },
  chardev: { entries: CHARDEV_OPTIONS, implied: 'backend', open: false },
  blockdev: { entries: BLOCKDEV_OPTIONS, implied: 'driver', open: true },
  export: { entries: EXPORT_OPTIONS, implied: 'type', open: false },
  monitor: { entries: MONITOR_OPTIONS, implied: 'chardev', open: false },
} as const;

export type KindName = keyof typeof KINDS;
export const KIND_NAMES = Object.keys(KINDS) as KindName[];

export const TREE = v.custom<Record<string, unknown>>(isTree, 'must be an object');
