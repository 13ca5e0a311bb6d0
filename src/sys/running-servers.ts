/**
 * Which servers run: one `<pid>.json` each in a folder that only the owner may enter, beside the `<pid>.sock` of its
 * control socket. An entry whose process is gone (or whose number another process has now) is removed when seen.
 */
import { existsSync, lstatSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { BlockError } from '../block/errors.ts';
import { processStart } from './processes.ts';

export interface ServedMount {
  /** As the table of mounts has it. */
  readonly mountpoint: string;
  /** The file that shows the disk. */
  readonly file: string;
  readonly image: string;
  readonly node: string;
  readonly format: string;
  readonly readOnly: boolean;
  /** The loop device over it, and where its file system is mounted: added by `list`. */
  readonly device?: string | undefined;
  readonly folder?: string | undefined;
}

export interface RunningServer {
  readonly pid: number;
  /** Clock ticks since boot: with the pid it names a process for good. */
  readonly startTime: number;
  /** ISO 8601. */
  readonly started: string;
  readonly mounts: readonly ServedMount[];
  readonly socket: string;
  /** Where it tells Prometheus of itself; undefined where it does not. */
  readonly metrics?: string | undefined;
  /** Where the server writes what it has to say; undefined in the foreground. */
  readonly log?: string | undefined;
}

/** The folder of this user's servers, made when missing. */
export function serversFolder(): string {
  const folder = folderName();
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const found = lstatSync(folder);
  if (found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o077) === 0) return folder;
  throw new BlockError(
    'EACCES',
    `Cannot use "${folder}": it must be a folder that only its owner may enter (0700)`,
  );
}

/** One folder for all of root's servers, whatever the session: what a unit started, a shell must find. */
function folderName(): string {
  const uid = process.getuid?.() ?? 0;
  if (uid === 0) return '/run/blockfuse';
  const given = process.env['XDG_RUNTIME_DIR'];
  return given !== undefined && given !== '' && existsSync(given)
    ? `${given}/blockfuse`
    : `/tmp/blockfuse-${uid}`;
}

/** A new file for what a server has to say, and its open descriptor to hand over. */
export function openServerLog(): { path: string; fd: number } {
  const path = `${serversFolder()}/${Date.now().toString(36)}-${process.pid}.log`;
  return { path, fd: openSync(path, 'ax', 0o600) };
}

/** Removes a log and returns what it held; '' when its server has removed it. */
export function discardServerLog(path: string): string {
  const text = existsSync(path) ? readFileSync(path, 'utf8').trim() : '';
  rmSync(path, { force: true });
  return text;
}

/** Where the server with this process id listens. */
export function controlSocketPath(pid: number): string {
  return `${serversFolder()}/${pid}.sock`;
}

/** Enters (or replaces) this process. Readers see the old or the new entry, never half of one. */
export function enterServer(server: RunningServer): void {
  const path = `${serversFolder()}/${server.pid}.json`;
  writeFileSync(`${path}.tmp`, JSON.stringify(server), { mode: 0o600 });
  renameSync(`${path}.tmp`, path);
}

/** Removes a server's entry, its socket and its log; a log that somebody should read stays. */
export function removeServer(server: Pick<RunningServer, 'pid' | 'log'>, keepLog = false): void {
  const folder = serversFolder();
  for (const ending of ['json', 'json.tmp', 'sock'])
    rmSync(`${folder}/${server.pid}.${ending}`, { force: true });
  if (server.log !== undefined && !keepLog) rmSync(server.log, { force: true });
}

/** Logs in which servers that are gone left something to read. */
export function leftLogs(): string[] {
  const folder = serversFolder();
  const current = new Set(runningServers().map(({ log }) => log));
  return readdirSync(folder)
    .filter((name) => name.endsWith('.log'))
    .map((name) => `${folder}/${name}`)
    .filter((path) => !current.has(path) && (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0);
}

/** Servers of this user that are alive, the oldest first. */
export function runningServers(): RunningServer[] {
  const folder = serversFolder();
  const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
  const servers = names
    .map((name) => readEntry(`${folder}/${name}`))
    .filter((server) => server !== undefined);
  for (const dead of servers.filter((server) => !isAlive(server))) removeServer(dead, hasSaid(dead));
  return servers.filter(isAlive).sort((one, other) => one.started.localeCompare(other.started));
}

function hasSaid({ log }: RunningServer): boolean {
  return log !== undefined && (statSync(log, { throwIfNoEntry: false })?.size ?? 0) > 0;
}

export function isAlive(server: Pick<RunningServer, 'pid' | 'startTime'>): boolean {
  return processStart(server.pid) === server.startTime;
}

function readEntry(path: string): RunningServer | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as RunningServer;
  } catch {
    return undefined;
  }
}
