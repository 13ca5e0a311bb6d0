import { fstatSync } from 'node:fs';

export interface HostAttributes {
  readonly mtime: { readonly sec: number; readonly nsec: number };
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** Owner, mode and time of last change of an open host file. */
export function hostAttributes(fd: number): HostAttributes {
  const { mtimeNs, mode, uid, gid } = fstatSync(fd, { bigint: true });
  const mtime = { sec: Number(mtimeNs / 1_000_000_000n), nsec: Number(mtimeNs % 1_000_000_000n) };
  return { mtime, mode: Number(mode & 0o777n), uid: Number(uid), gid: Number(gid) };
}
