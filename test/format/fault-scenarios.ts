/** What is done while something fails: qcow2-faults.test.ts. */
import { bitmap, deed, flush, resize, snapshot, write } from './disk-deeds.ts';
import type { Deed } from './disk-deeds.ts';

export interface Scenario {
  readonly options: string;
  readonly size: number;
  /** The image, or with `backing` what is below it, holds data from the start. */
  readonly filled?: boolean;
  readonly backing?: boolean;
  /** Of a bitmap that is there from the start, and misses nothing. */
  readonly granularity?: number;
  readonly deeds: readonly Deed[];
}

const KIB = 1024;

/** Each write has a table or two of its own. */
const scattered = (step: number, count: number, length: number): Deed[] =>
  Array.from({ length: count }, (_, index) =>
    index % 4 === 3 ? [write(index * step + 1, length), flush] : [write(index * step + 1, length)],
  ).flat();

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'writes with allocation': {
    options: 'cluster_size=512,refcount_bits=64',
    size: 512 * KIB,
    deeds: [...scattered(20, 24, 3), flush],
  },
  'copy on write over a backing file': {
    options: 'cluster_size=512',
    size: 512 * KIB,
    backing: true,
    deeds: [...scattered(20, 24, 5), deed('zero', 5, 11), deed('unmap', 300, 40), flush, write(2, 3)],
  },
  'discards and zeroes': {
    options: 'cluster_size=512',
    size: 512 * KIB,
    filled: true,
    deeds: [
      deed('discard', 10, 100),
      write(12, 3),
      flush,
      deed('zero', 100, 33),
      deed('unmap', 131, 55),
      flush,
      write(100, 60),
      deed('discard', 0, 200),
      flush,
      write(3, 150),
    ],
  },
  snapshots: {
    options: 'cluster_size=4k',
    size: 512 * KIB,
    filled: true,
    deeds: [
      snapshot('create', 'one'),
      write(10, 30),
      deed('discard', 100, 100),
      flush,
      snapshot('create', 'two'),
      write(1, 200),
      snapshot('apply', 'one'),
      write(20, 4),
      snapshot('delete', 'one'),
      write(300, 20),
      flush,
      snapshot('delete', 'two'),
      write(5, 5),
    ],
  },
  resizing: {
    options: 'cluster_size=512',
    size: 512 * KIB,
    filled: true,
    deeds: [
      resize(1500),
      write(1490, 10),
      flush,
      resize(700),
      write(650, 40),
      resize(2000),
      write(1900, 3),
      flush,
      resize(100),
      write(1, 50),
    ],
  },
  'resizing over a backing file': {
    options: 'cluster_size=4k',
    size: 1024 * KIB,
    backing: true,
    deeds: [resize(333), write(1, 30), resize(2000), write(1500, 20), flush, resize(50), resize(900)],
  },
  'compressed writes': {
    options: 'cluster_size=4k',
    size: 512 * KIB,
    filled: true,
    deeds: [
      ...Array.from({ length: 24 }, (_, index) => [
        deed('compress', index * 12, 4),
        ...(index % 5 === 4 ? [flush] : []),
      ]).flat(),
      write(2, 40),
      deed('discard', 100, 30),
      flush,
      deed('compress', 200, 4),
    ],
  },
  'extended L2': {
    options: 'cluster_size=16k,extended_l2=on',
    size: 1024 * KIB,
    filled: true,
    deeds: [
      deed('discard', 16, 100),
      write(17, 3),
      flush,
      write(90, 30),
      deed('unmap', 200, 41),
      deed('zero', 301, 7),
      flush,
      write(202, 5),
      snapshot('create', 'one'),
      write(1, 500),
      flush,
    ],
  },
  'an external data file': {
    options: 'cluster_size=512,data_file=DATA',
    size: 512 * KIB,
    deeds: [...scattered(20, 20, 5), deed('discard', 0, 60), write(10, 8), flush, resize(600), write(590, 5)],
  },
  'lazy refcounts': {
    options: 'cluster_size=512,lazy_refcounts=on',
    size: 512 * KIB,
    deeds: [...scattered(20, 24, 3), deed('discard', 0, 100), flush, write(3, 40)],
  },
  'dirty bitmaps': {
    options: 'cluster_size=512',
    size: 512 * KIB,
    granularity: 512,
    deeds: [
      write(10, 20),
      flush,
      bitmap('add', 'second'),
      bitmap('merge', 'second'),
      ...scattered(40, 8, 3),
      deed('zero', 100, 30),
      flush,
      bitmap('remove', 'second'),
      deed('discard', 200, 33),
      write(300, 5),
      bitmap('add', 'third'),
      bitmap('merge', 'third'),
      resize(600),
      write(590, 5),
      flush,
    ],
  },
  encryption: {
    options: 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10,encrypt.cipher-alg=aes-128',
    size: 1024 * KIB,
    deeds: [
      ...scattered(130, 6, 3),
      flush,
      deed('discard', 64, 200),
      write(100, 60),
      snapshot('create', 'one'),
      write(90, 200),
      flush,
      deed('zero', 100, 100),
      snapshot('apply', 'one'),
      write(1, 5),
      snapshot('delete', 'one'),
      flush,
    ],
  },
};
