import path from 'node:path';
import * as v from 'valibot';
import { bool, choice, optional, text } from '../block/schema.ts';
import { defineCommand, repeated } from './command.ts';
import type { Options, OptionValues } from './command.ts';
import { cacheOptions } from './cache-mode.ts';
import {
  absoluteName,
  resolveNames,
  exclusively,
  gatePolicy,
  IMAGE_ARGUMENT,
  IMAGE_OPTIONS,
  imageName,
  imageTree,
  imageWord,
} from './image-arguments.ts';
import { parseKeyValueLists } from './key-values.ts';
import { METRICS_OPTION, metricsAddress } from './metrics-option.ts';
import { nodeNameFor } from './node-name.ts';
import { encoded, readSecrets } from './secrets.ts';
import type { SecretValues } from './secrets.ts';
import { print, printJson } from './output.ts';
import type { ServeRequest } from './server/messages.ts';

const OPTIONS = {
  ...IMAGE_OPTIONS,
  options: {
    schema: repeated(
      'Options of the format: key=value,... (blockfuse formats NAME lists them); may be given several times',
    ),
    value: 'list',
    short: 'O',
    repeat: true,
  },
  'read-only': { schema: optional(bool('Refuse writes'), false), short: 'r' },
  'node-name': {
    schema: optional(
      text('Name of the node, and of the file; made from the name of the image when left out'),
    ),
    value: 'name',
  },
  discard: {
    schema: optional(
      choice(['unmap', 'ignore'], 'Give discarded ranges back to the storage (default unmap)'),
      'unmap',
    ),
    value: 'mode',
  },
  'detect-zeroes': {
    schema: optional(
      choice(
        ['auto', 'off', 'on', 'unmap'],
        'Store written zeroes as zeroes, not as data; unmap: give their room back. auto: unmap where the format can store ' +
          'zeroes, unless discards are ignored (default auto)',
      ),
      'auto',
    ),
    value: 'mode',
  },
  cache: {
    schema: optional(
      choice(
        ['writeback', 'none', 'writethrough', 'directsync', 'unsafe'],
        'How the image is cached, as QEMU has it: none and directsync bypass the host cache, writethrough and ' +
          'directsync make each write stable, unsafe ignores flushes (default writeback)',
      ),
      'writeback',
    ),
    value: 'mode',
  },
  'allow-other': {
    schema: optional(
      choice(['auto', 'on', 'off'], 'Let other users in; auto: if the system allows it (default off)'),
      'off',
    ),
    value: 'mode',
  },
  transport: {
    schema: optional(
      choice(
        ['dev-fuse', 'fuse-native'],
        "How requests come: the kernel's own protocol (dev-fuse, the default), or through the npm package fuse-native, " +
          'which lacks discard, holes, passthrough and caching',
      ),
      'dev-fuse',
    ),
    value: 'name',
  },
  growable: {
    schema: optional(
      bool(
        'Writes beyond the end, and truncate, change the size; the image ends with a whole sector, filled with zeroes',
      ),
      false,
    ),
  },
  foreground: { schema: optional(bool('Serve in this process and do not return until the end'), false) },
  'pid-file': { schema: optional(text('Write the process id of the server here')), value: 'file' },
  'log-file': {
    schema: optional(
      text('Add what the server has to say to this file, with the time; SIGHUP opens it anew'),
    ),
    value: 'file',
  },
  ...METRICS_OPTION,
  quiet: { schema: optional(bool('Print nothing but warnings and errors'), false), short: 'q' },
  json: { schema: optional(bool('Print what was mounted, or the error, as JSON'), false) },
} as const satisfies Options;

type MountValues = Omit<OptionValues<typeof OPTIONS>, keyof SecretValues> & SecretValues;

export const mountCommand = defineCommand({
  name: 'mount',
  summary: 'Show the disk inside an image as a flat file',
  description: [
    'On a directory the disk appears as the file <node>.raw inside it. On a regular file, the image itself included, ' +
      'that file becomes the disk.',
    'The command returns when the disk can be read; the server stays in the background until "blockfuse unmount" ' +
      'or umount.',
  ],
  arguments: [IMAGE_ARGUMENT, { name: 'mountpoint', summary: 'Directory or regular file that exists' }],
  options: OPTIONS,
  mountOptions: true,
  examples: [
    { command: 'blockfuse mount disk.qcow2 /mnt/disk', text: 'The disk is /mnt/disk/disk.raw' },
    {
      command: 'blockfuse mount --read-only disk.qcow2 disk.qcow2',
      text: 'The image itself reads as the disk',
    },
    {
      command: 'blockfuse mount -f qcow2 -O l2-cache-size=64M disk.qcow2 /mnt/disk',
      text: 'With an option of the format',
    },
    { command: 'blockfuse mount -U vm.qcow2 /mnt/vm', text: 'Look at the disk of a VM that runs' },
  ],
  run: async ({ arguments: [image = '', mountpoint = ''], options, mountWords }) => {
    if (options.foreground) {
      const { restartWithThreads, serveForeground } = await import('./server/serve.ts');
      // Before the keys are read: a descriptor gives them once.
      restartWithThreads();
      return serveForeground(serveRequest(image, mountpoint, options, mountWords));
    }
    const request = serveRequest(image, mountpoint, options, mountWords);
    const { launchServer } = await import('./server/launch.ts');
    const { mounts, pid, metrics } = await launchServer(request);
    const [mount] = mounts;
    if (options.json) printJson({ ...mount, pid, metrics });
    else if (!options.quiet) print(mount?.file ?? '');
    return 0;
  },
});

/** What to serve for a mount with default options but for `given`: for commands that mount on the way. */
export function mountRequest(image: string, mountpoint: string, given: Partial<MountValues>): ServeRequest {
  const defaults: Record<string, unknown> = {};
  for (const [name, { schema }] of Object.entries(OPTIONS)) defaults[name] = v.parse(schema, undefined);
  return serveRequest(image, mountpoint, { ...(defaults as MountValues), ...given }, []);
}

function serveRequest(
  given: string,
  mountpoint: string,
  values: MountValues,
  mountWords: readonly string[],
): ServeRequest {
  const image = imageWord(given, values);
  const readOnly = values['read-only'] || values['force-share'];
  const { cache, writeThrough } = cacheOptions(values.cache);
  const node = nodeNameFor(image, values['node-name']);
  const name = imageName(image);
  const isAuto = values['detect-zeroes'] === 'auto';
  const options = {
    ...exclusively(imageTree(image, { ...values, 'image-opts': false }, absoluteName)),
    ...resolveNames(parseKeyValueLists(values.options), absoluteName),
    ...cache,
    'node-name': node,
    'read-only': readOnly,
    discard: values.discard,
    ...(isAuto ? {} : { 'detect-zeroes': values['detect-zeroes'] }),
  };
  const spec = {
    id: 'mount',
    nodeName: node,
    mountpoint: path.resolve(mountpoint),
    writable: readOnly ? false : ('auto' as const),
    growable: values.growable,
    allowOther: values['allow-other'],
    writeThrough,
    passthrough: true,
    transport: values.transport,
    mountWords,
    imageName: name,
  };
  return {
    title: `mount "${name}"`,
    words: [name, spec.mountpoint],
    steps: [
      { kind: 'blockdev', options, detectZeroes: isAuto && values.discard === 'unmap' },
      { kind: 'export', spec },
    ],
    secrets: readSecrets(values).map(encoded),
    gate: gatePolicy(values),
    endsWithLastExport: true,
    cwd: '/',
    pidFile: absoluteOrNone(values['pid-file']),
    logFile: absoluteOrNone(values['log-file']),
    metrics: metricsAddress(values.metrics),
  };
}

const absoluteOrNone = (file: string | undefined): string | undefined =>
  file === undefined ? undefined : path.resolve(file);
