import path from 'node:path';
import { bool, optional, text } from '../block/schema.ts';
import { defineCommand, repeated, UsageError } from './command.ts';
import type { Options } from './command.ts';
import { IMAGE_OPTIONS } from './image-arguments.ts';
import { METRICS_OPTION, metricsAddress } from './metrics-option.ts';
import { print } from './output.ts';

const OPTIONS = {
  blockdev: {
    schema: repeated('A node: driver=NAME,node-name=NAME,... or a JSON object; "help" lists the drivers'),
    value: 'options',
    repeat: true,
  },
  export: {
    schema: repeated('Show a node: [type=]fuse,id=ID,node-name=NAME,mountpoint=PATH[,writable=on]...'),
    value: 'options',
    repeat: true,
  },
  object: {
    schema: repeated('An object: throttle-group,id=ID,... or secret,id=ID,file=PATH; "help" lists the types'),
    value: 'options',
    repeat: true,
  },
  chardev: {
    schema: repeated('A connection: socket,path=PATH,server=on,wait=off,id=ID or stdio,id=ID'),
    value: 'options',
    repeat: true,
  },
  monitor: {
    schema: repeated('Speak QMP on a connection: [chardev=]ID[,pretty=on]'),
    value: 'options',
    repeat: true,
  },
  'add-fd': {
    schema: repeated('A descriptor that this process was started with, for /dev/fdset/SET: fd=N,set=SET'),
    value: 'options',
    repeat: true,
  },
  config: {
    schema: repeated('The same as a file, JSON or YAML: lists under the names of these options'),
    value: 'file',
    repeat: true,
  },
  daemonize: { schema: optional(bool('Go to the background when all is up'), false) },
  pidfile: { schema: optional(text('Write the process id here when all is up')), value: 'file' },
  'allow-drivers': {
    schema: optional(text('Drivers that may be used, separated by commas; all when left out')),
    value: 'list',
  },
  'allow-drivers-read-only': {
    schema: optional(text('Further drivers that may be used for reading only')),
    value: 'list',
  },
  'log-file': {
    schema: optional(
      text('Add what the server has to say to this file, with the time; SIGHUP opens it anew'),
    ),
    value: 'file',
  },
  ...METRICS_OPTION,
  follow: IMAGE_OPTIONS.follow,
} as const satisfies Options;

export const serveCommand = defineCommand({
  name: 'serve',
  summary: 'Serve a graph of nodes, controlled over a socket while it runs',
  description: [
    'Takes the options of qemu-storage-daemon and does what they say in their order, then serves until it is told to ' +
      'quit or gets a signal. An option of --blockdev that QEMU has not: snapshot=on, writes go to a temporary file.',
    'An export on a regular file turns that file into the disk; on a directory the disk is the file <node>.raw in it, and ' +
      'several exports may name the same directory.',
    '"--blockdev help", "--blockdev driver=qcow2,help", "--object help", "--object throttle-group,help", "--export help" ' +
      'and "--chardev help" tell what there is.',
  ],
  arguments: [],
  options: OPTIONS,
  examples: [
    {
      command:
        'blockfuse serve --blockdev driver=qcow2,node-name=n0,file.driver=file,file.filename=disk.qcow2 ' +
        '--export fuse,id=e0,node-name=n0,mountpoint=/mnt/disk,writable=on',
      text: 'Show one disk',
    },
    {
      command: 'blockfuse serve --chardev socket,path=qmp.sock,server=on,wait=off,id=c --monitor c',
      text: 'Nothing yet, all over QMP',
    },
    { command: 'blockfuse serve --config disks.yaml --daemonize --pidfile disks.pid', text: 'From a file' },
  ],
  run: async ({ options }) => {
    const { readSteps } = await import('./serve/steps.ts');
    const { helpFor } = await import('./serve/help.ts');
    const help = helpFor(options);
    if (help !== undefined) {
      print(help);
      return 0;
    }
    const request = {
      title: 'serve',
      words: [],
      steps: await readSteps(options),
      gate: { follow: options.follow },
      drivers: driverLists(options['allow-drivers'], options['allow-drivers-read-only']),
      endsWithLastExport: false,
      cwd: process.cwd(),
      metrics: metricsAddress(options.metrics),
      logFile: options['log-file'] === undefined ? undefined : path.resolve(options['log-file']),
      pidFile: options.pidfile === undefined ? undefined : path.resolve(options.pidfile),
    };
    if (options.daemonize) {
      const stdio = request.steps.find((step) => step.kind === 'chardev' && step.chardev.backend === 'stdio');
      if (stdio !== undefined) throw new UsageError('a chardev of type stdio can not go with --daemonize');
      const { launchServer } = await import('./server/launch.ts');
      await launchServer(request);
      return 0;
    }
    const { serveForeground } = await import('./server/serve.ts');
    return serveForeground(request, false);
  },
});

function driverLists(all: string | undefined, readOnly: string | undefined) {
  if (all === undefined && readOnly === undefined) return undefined;
  const names = (given = ''): string[] => given.split(',').filter((name) => name !== '');
  return { writable: names(all), readOnly: names(readOnly) };
}
