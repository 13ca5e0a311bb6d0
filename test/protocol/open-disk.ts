import { unpackHere } from '../../src/util/unpack-service.ts';
import * as v from 'valibot';
import type { Driver, OpenDriver, RequestDriver } from '../../src/block/driver.ts';
import type { CommonOptions } from '../../src/block/schema.ts';

const COMMON: CommonOptions = {
  readOnly: false,
  autoReadOnly: false,
  forceShare: false,
  discard: 'unmap',
  detectZeroes: 'off',
  cacheDirect: false,
  cacheNoFlush: false,
};

export const commonOptions = (given: Partial<CommonOptions> = {}): CommonOptions => ({ ...COMMON, ...given });

/** A protocol driver opened without a graph. Options are parsed by its schema, as a command line's are. */
export async function openDisk(
  driver: Driver,
  options: Record<string, string | number | boolean>,
  common: Partial<CommonOptions> = {},
): Promise<Disk> {
  const none = (): never => {
    throw new TypeError('a protocol has no children');
  };
  const opened = await driver.open({
    nodeName: 'n0',
    options: v.parse(v.strictObject(driver.options), options),
    common: commonOptions(common),
    subject: 'n0',
    child: none,
    givenChild: none,
    openNamed: none,
    warn: none,
    secret: none,
    object: none,
    unpacker: unpackHere,
    readText: none,
    bitmap: none,
    attach: none,
    event: none,
  });
  if (!isDisk(opened))
    throw new TypeError(`${driver.name} lacks a request that every protocol for disks has`);
  return opened;
}

export type Disk = RequestDriver & Required<Pick<RequestDriver, (typeof EXPECTED)[number]>>;

/** The descriptor of a disk that has one. */
export function hostFd(disk: Disk): number {
  if (disk.hostFd === undefined) throw new TypeError('the disk has no descriptor');
  return disk.hostFd;
}

const EXPECTED = ['tryRead', 'tryWrite', 'write', 'writeZeroes', 'discard', 'allocatedSize'] as const;

function isDisk(opened: OpenDriver): opened is Disk {
  return opened.family === 'request' && EXPECTED.every((name) => typeof opened[name] === 'function');
}
