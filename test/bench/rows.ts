import type { Load } from './fio.ts';
import { COMPRESSED, OTHER_FORMATS } from './images.ts';
import type { ImageKind } from './images.ts';

/** One line of the table: what is measured, against whom, and the ratio to reach. */
export interface Row {
  readonly name: string;
  readonly image: ImageKind;
  readonly load: Load;
  /** Compared with QEMU's storage daemon, or with the host's file itself. */
  readonly against: 'qemu' | 'host';
  readonly target: number;
  /** A new empty image for each measurement. */
  readonly fresh?: boolean;
  /** The host's page cache is emptied before each measurement. */
  readonly cold?: boolean;
}

const KiB = 1024;
const MiB = 1024 * KiB;

const random = (pattern: 'randread' | 'randwrite', jobs: number): Load => ({
  pattern,
  block: 4 * KiB,
  jobs,
  direct: true,
});
const sequential = (pattern: 'read' | 'write', direct = true): Load => ({
  pattern,
  block: MiB,
  jobs: 1,
  direct,
});

const qcow2 = { image: 'full', against: 'qemu' } as const;
const luks = { image: 'encrypted', against: 'qemu', target: 0.6 } as const;
const raw = { image: 'raw', against: 'host', target: 0.9 } as const;
/** Not in the table: what passthrough costs when nothing else takes time. */
const cachedRaw = { ...raw, target: 0.7 } as const;
const buffered = { direct: false, keepCache: true } as const;

export const ROWS: readonly Row[] = [
  { name: 'qcow2 4k randread 1 job', ...qcow2, load: random('randread', 1), target: 2 },
  { name: 'qcow2 4k randread 8 jobs', ...qcow2, load: random('randread', 8), target: 2 },
  { name: 'qcow2 4k randwrite 1 job', ...qcow2, load: random('randwrite', 1), target: 3 },
  { name: 'qcow2 4k randwrite 8 jobs', ...qcow2, load: random('randwrite', 8), target: 5 },
  { name: 'qcow2 1M read', ...qcow2, load: sequential('read'), target: 1.5 },
  { name: 'qcow2 1M read buffered', ...qcow2, load: sequential('read', false), target: 1.5 },
  { name: 'qcow2 1M write', ...qcow2, load: sequential('write'), target: 1 },
  {
    name: 'qcow2 1M write empty',
    image: 'empty',
    against: 'qemu',
    load: { ...sequential('write'), amount: 512 * MiB },
    target: 1,
    fresh: true,
  },
  {
    name: 'qcow2 4k randwrite empty 4 jobs',
    image: 'empty',
    against: 'qemu',
    load: { ...random('randwrite', 4), amount: 128 * MiB },
    target: 1,
    fresh: true,
  },
  {
    name: 'chain of 5 4k randread 8 jobs',
    image: 'chain',
    against: 'qemu',
    load: random('randread', 8),
    target: 1.5,
  },
  ...COMPRESSED.flatMap((image): Row[] => [
    { name: `${image} 1M read`, image, against: 'qemu', load: sequential('read'), target: 1 },
    { name: `${image} 4k randread 1 job`, image, against: 'qemu', load: random('randread', 1), target: 1 },
    { name: `${image} 4k randread 8 jobs`, image, against: 'qemu', load: random('randread', 8), target: 1 },
  ]),
  { name: 'LUKS 4k randread 8 jobs', ...luks, load: random('randread', 8) },
  { name: 'LUKS 4k randwrite 8 jobs', ...luks, load: random('randwrite', 8) },
  { name: 'LUKS 1M read', ...luks, load: sequential('read') },
  { name: 'LUKS 1M write', ...luks, load: sequential('write') },
  ...OTHER_FORMATS.flatMap((image): Row[] => [
    { name: `${image} 4k randread 8 jobs`, image, against: 'qemu', load: random('randread', 8), target: 2 },
    { name: `${image} 1M read`, image, against: 'qemu', load: sequential('read'), target: 1.5 },
    { name: `${image} 1M write`, image, against: 'qemu', load: sequential('write'), target: 1 },
  ]),
  { name: 'raw 4k randread 8 jobs', ...raw, load: random('randread', 8) },
  { name: 'raw 4k randwrite 8 jobs', ...raw, load: random('randwrite', 8) },
  { name: 'raw 1M read', ...raw, load: sequential('read') },
  { name: 'raw 1M write', ...raw, load: sequential('write') },
  { ...cachedRaw, name: 'raw 4k randread 8 jobs buffered', load: { ...random('randread', 8), ...buffered } },
  { ...cachedRaw, name: 'raw 1M read buffered', load: { ...sequential('read'), ...buffered } },
  { name: 'cold 4k randread 8 jobs', ...qcow2, load: random('randread', 8), target: 1, cold: true },
];
