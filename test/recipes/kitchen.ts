/** Where a recipe is run: a folder of its own, the built command as `blockfuse` in the PATH, as root or as somebody else. */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { program } from '../helpers/program.ts';
import { attempt, run } from '../helpers/run.ts';
import type { Outcome } from '../helpers/run.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { until } from '../helpers/until.ts';

export type Cook = 'root' | 'an ordinary user';

export interface Kitchen {
  /** Where the script runs. */
  readonly folder: string;
  readonly cook: Cook;
}

const NOBODY = '65534';

export async function kitchen(t: ExecutionContext, cook: Cook): Promise<Kitchen> {
  const folder = join(await tempDir(t), 'work');
  for (const path of ['', '.bin', '.home', '.run', '.sbin']) await mkdir(join(folder, path), { mode: 0o700 });
  const command = `#!/bin/sh\nexec ${process.execPath} ${program()} "$@"\n`;
  await writeFile(join(folder, '.bin/blockfuse'), command, { mode: 0o755 });
  return { folder, cook };
}

/**
 * Everything that a script mounts is gone with the mount namespace, but its servers: the script ends them. $1 is the folder,
 * $2 the script. What root writes into /etc and looks up in /usr/sbin is the recipe's own.
 */
const AS_ROOT = `
  mount --make-rprivate / || exit 99
  printf '#!/bin/sh\\nexec "%s" mount --quiet "$@"\\n' "$1/.bin/blockfuse" >"$1/.sbin/mount.fuse.blockfuse" && chmod 755 "$1/.sbin/mount.fuse.blockfuse"
  mount -t overlay -o "lowerdir=$1/.sbin:/usr/sbin" overlay /usr/sbin || exit 99
  : >"$1/.fstab" && mount --bind "$1/.fstab" /etc/fstab || exit 99
  cd "$1" && exec sh -eux -c "$2"`;

const AS_USER = `
  mount --make-rprivate / || exit 99
  mknod "$1/.fuse" c 10 229 && chmod 666 "$1/.fuse" && mount --bind "$1/.fuse" /dev/fuse || exit 99
  cd "$1" && exec setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups sh -eux -c "$2"`;

/** Servers of mounts below a folder that do not end by themselves. After umount(8) one makes its image final first. */
async function leftServers(folder: string): Promise<number[]> {
  let pids: number[] = [];
  const ended = async (): Promise<boolean> => {
    const { stdout } = await attempt('pgrep', ['-f', `blockfuse.* ${folder}/`]);
    pids = stdout
      .split('\n')
      .filter((line) => line !== '')
      .map(Number);
    return pids.length === 0;
  };
  await until(ended, 'no server').catch(() => undefined);
  return pids;
}

/** Runs a recipe as it stands, each of whose lines must succeed. Servers that it left are ended, and are a failure. */
export async function cookRecipe(
  t: ExecutionContext,
  { folder, cook }: Kitchen,
  script: string,
): Promise<Outcome> {
  const env = {
    PATH: `${folder}/.bin:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
    HOME: `${folder}/.home`,
    XDG_RUNTIME_DIR: `${folder}/.run`,
    LC_ALL: 'C.UTF-8',
  };
  if (cook !== 'root') {
    await chmod(join(folder, '..'), 0o755);
    await run('chown', ['-R', `${NOBODY}:${NOBODY}`, folder]);
  }
  const inside = cook === 'root' ? AS_ROOT : AS_USER;
  const outcome = await attempt('unshare', ['-m', 'sh', '-c', inside, 'sh', folder, script], { env });
  const left = await leftServers(folder);
  for (const pid of left) process.kill(pid, 'SIGTERM');
  t.is(outcome.code, 0, outcome.stdout + outcome.stderr);
  t.deepEqual(left, [], 'a server is left');
  return outcome;
}
