import { Opcode } from '../protocol/constants.ts';
import type { Operation } from '../state.ts';
import { access } from './access.ts';
import { destroy } from './destroy.ts';
import { fallocate } from './fallocate.ts';
import { batchForget, forget } from './forget.ts';
import { fsync, fsyncdir, syncfs } from './fsync.ts';
import { getattr, statx } from './getattr.ts';
import { lookup } from './lookup.ts';
import { lseek } from './lseek.ts';
import { open } from './open.ts';
import { opendir, releasedir } from './opendir.ts';
import { readText } from './read.ts';
import { readdir, readdirplus } from './readdir.ts';
import { flush, release } from './release.ts';
import { setattr } from './setattr.ts';
import { statfs } from './statfs.ts';
import { getxattr, listxattr } from './xattr.ts';

/**
 * Operations by opcode. INIT and INTERRUPT are the session's own, READ and WRITE of disks its hot path. What is not here is
 * answered ENOSYS: the kernel then does without, most often for good.
 */
export const OPERATIONS: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [Opcode.lookup, lookup],
  [Opcode.forget, forget],
  [Opcode.batchForget, batchForget],
  [Opcode.getattr, getattr],
  [Opcode.statx, statx],
  [Opcode.setattr, setattr],
  [Opcode.open, open],
  [Opcode.read, readText],
  [Opcode.release, release],
  [Opcode.flush, flush],
  [Opcode.fsync, fsync],
  [Opcode.fsyncdir, fsyncdir],
  [Opcode.syncfs, syncfs],
  [Opcode.fallocate, fallocate],
  [Opcode.lseek, lseek],
  [Opcode.opendir, opendir],
  [Opcode.readdir, readdir],
  [Opcode.readdirplus, readdirplus],
  [Opcode.releasedir, releasedir],
  [Opcode.statfs, statfs],
  [Opcode.access, access],
  [Opcode.getxattr, getxattr],
  [Opcode.listxattr, listxattr],
  [Opcode.destroy, destroy],
]);
