import { defineDriver, ZeroFlag } from '../../src/block/driver.ts';
import { BlockError, errnoOf } from '../../src/block/errors.ts';
import type { CommonOptions } from '../../src/block/schema.ts';
import { text } from '../../src/block/schema.ts';
import { deviceFacts, discardBlocks, isDeviceClaimed, zeroBlocks } from '../../src/sys/block-device.ts';
import type { OpenMode } from '../../src/sys/file.ts';
import { closeNow, openFile } from '../../src/sys/file.ts';
import { punchHole } from '../../src/sys/sparse.ts';
import type { HostOptions } from './host/disk.ts';
import { HostDisk, openDisk } from './host/disk.ts';
import type { HostHandle } from './host/opening.ts';
import { lockingOption, openHandle, shareRwOption } from './host/opening.ts';

/** A block device of the host. Its size is what it was at opening. */
class DeviceDisk extends HostDisk {
  constructor(handle: HostHandle, options: HostOptions) {
    super(handle, options);
    const facts = deviceFacts(handle.io);
    this.size = facts.size;
    this.limits = {
      ...this.limits,
      zeroesAlignment: facts.logicalBlock,
      discardAlignment: Math.max(facts.logicalBlock, facts.discardGranularity),
    };
  }

  async writeZeroes(offset: number, length: number, flags: number): Promise<void> {
    const unmapped = (flags & ZeroFlag.mayUnmap) !== 0 && (await this.unmapToZero(offset, length));
    if (!unmapped) await this.using((io) => zeroBlocks(io, offset, length));
    if ((flags & ZeroFlag.fua) !== 0) await this.flush();
  }

  discard(offset: number, length: number): Promise<void> {
    return this.using((io) => discardBlocks(io, offset, length));
  }

  override allocatedSize(): number {
    return this.size;
  }

  /** For a device the kernel takes a hole as "unmap what then reads as zeroes". */
  private async unmapToZero(offset: number, length: number): Promise<boolean> {
    try {
      await this.using((io) => punchHole(io, offset, length));
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOTSUP') return false;
      throw error;
    }
  }
}

/** A device marked read-only opens for writing on some kernels, and only the writes fail then. */
async function openDevice(path: string, mode: OpenMode): Promise<number> {
  const fd = await openFile(path, 'block', mode);
  if (!mode.writable) return fd;
  try {
    if (!deviceFacts({ fd, path }).readOnly) return fd;
    throw new BlockError('EROFS', `Cannot open "${path}" for writing: the device is read-only`, { path });
  } catch (error) {
    closeNow(fd);
    throw error;
  }
}

function refuseClaimed(path: string, common: CommonOptions, locking: string): void {
  if (common.readOnly || locking === 'off' || !isDeviceClaimed(path)) return;
  const text =
    `Cannot open "${path}" for writing: the system itself uses the device (mounted, swap, or part of a volume). ` +
    `Unmount it, or use read-only=on`;
  throw new BlockError('EBUSY', text, { path });
}

export const hostDeviceDriver = defineDriver({
  name: 'host_device',
  kind: 'protocol',
  summary: 'A block device of the host',
  options: { filename: text('Path of the device'), locking: lockingOption, 'share-rw': shareRwOption },
  children: {},
  open: ({ options, common }) => {
    const { filename, locking } = options;
    refuseClaimed(filename, common, locking);
    const opening = openHandle(filename, common, (mode) => openDevice(filename, mode));
    return openDisk(opening, (handle) => new DeviceDisk(handle, options));
  },
});
