/**
 * Native libraries that lie inside the executable. Each is copied into a file without a name and loaded through its
 * descriptor, which stays open: the dynamic loader knows libraries by their path, and the number must not be used again.
 * Nothing is left on the disk when the process ends.
 */
import { constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { getRawAsset } from 'node:sea';

/** Of an open file without a name; from linux/fcntl.h, Node has no name for it. */
const O_TMPFILE = 0o20200000;

/**
 * The path by which the library can be loaded, once `load` has taken it from there. Folders that allow no execution, or
 * where nothing may be written, are passed over.
 */
export function loadEmbedded(asset: string, load: (path: string) => void): void {
  const bytes = new Uint8Array(getRawAsset(asset));
  const problems: string[] = [];
  for (const folder of folders()) {
    try {
      const fd = namelessFile(folder);
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
      load(`/proc/self/fd/${fd}`);
      return;
    } catch (error) {
      problems.push(`${folder} (${error instanceof Error ? error.message.split('\n')[0] : String(error)})`);
    }
  }
  process.stderr.write(
    `blockfuse: Cannot load "${asset}": no folder to run it from: ${problems.join(', ')}\n`,
  );
  process.exit(1);
}

function folders(): string[] {
  const { XDG_RUNTIME_DIR, TMPDIR, HOME } = process.env;
  const all = [XDG_RUNTIME_DIR, '/dev/shm', TMPDIR, '/tmp', '/var/tmp', '/run', HOME];
  return [...new Set(all.filter((folder) => folder !== undefined).filter((folder) => folder !== ''))];
}

function namelessFile(folder: string): number {
  try {
    return openSync(folder, O_TMPFILE | constants.O_RDWR, 0o700);
  } catch {
    // Some file systems have none: a file that loses its name at once.
    const made = mkdtempSync(`${folder}/.blockfuse-`);
    try {
      return openSync(`${made}/library`, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o700);
    } finally {
      rmSync(made, { recursive: true, force: true });
    }
  }
}
