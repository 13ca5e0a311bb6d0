/** Where an export is: from options, and from file names (`nbd:host:port:exportname=x`, `nbd://host/x`). */
import { BlockError } from '../../../src/block/errors.ts';
import type { StreamAddress } from '../../../src/sys/stream-socket.ts';

export const PORT = 10809;

export interface ServerOptions {
  readonly 'server.type'?: string | undefined;
  readonly 'server.path'?: string | undefined;
  readonly 'server.host'?: string | undefined;
  readonly 'server.port'?: string | number | undefined;
  readonly path?: string | undefined;
  readonly host?: string | undefined;
  readonly port?: string | number | undefined;
}

const refuse = (why: string): never => {
  throw new BlockError('EINVAL', `Cannot open an NBD export: ${why}`);
};

/** The address that the options name, in either of QEMU's two ways. */
export function addressOf(options: ServerOptions): StreamAddress {
  const path = options['server.path'] ?? options.path;
  const host = options['server.host'] ?? options.host;
  const port = options['server.port'] ?? options.port;
  const type = options['server.type'] ?? (path === undefined ? 'inet' : 'unix');
  if (path !== undefined && host !== undefined) return refuse('both path and host are given');
  if (type === 'unix') return path === undefined ? refuse('server.path is missing') : { path };
  if (type !== 'inet') return refuse(`server.type is "${type}", must be inet or unix`);
  if (host === undefined || host === '') return refuse('a server is missing: server.path, or server.host');
  return { host, port: portOf(port ?? PORT) };
}

function portOf(given: string | number): number {
  const port = /^\d+$/.test(String(given)) ? Number(given) : Number.NaN;
  return port >= 1 && port <= 65535 ? port : refuse(`port is "${given}", must be 1 to 65535`);
}

/** How messages name the export: as a URI. */
export function uriOf(address: StreamAddress, name: string): string {
  const path = encodeURI(name);
  if ('path' in address) return `nbd+unix:///${path}?socket=${encodeURI(address.path)}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `nbd://${host}${address.port === PORT ? '' : `:${address.port}`}/${path}`;
}

export function parseNbdName(filename: string): Record<string, unknown> {
  return /^nbds?(\+[a-z]+)?:\/\//.test(filename) ? parseUri(filename) : parseLegacy(filename);
}

/** `nbd:unix:PATH[:exportname=NAME]`, `nbd:HOST:PORT[:exportname=NAME]`. */
function parseLegacy(filename: string): Record<string, unknown> {
  const [, address = '', name] = /^nbd:([^]*?)(?::exportname=([^]*))?$/.exec(filename) ?? [];
  const named = name === undefined ? {} : { export: name };
  if (address.startsWith('unix:')) {
    return { server: { type: 'unix', path: address.slice('unix:'.length) }, ...named };
  }
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(address) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || host === '')
    return refuse(`"${filename}" has no HOST:PORT and no unix:PATH behind "nbd:"`);
  return { server: { type: 'inet', host, port }, ...named };
}

/** nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH. */
function parseUri(filename: string): Record<string, unknown> {
  const [, scheme = '', authority = '', path = '', query = ''] =
    /^([a-z+]+):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?$/.exec(filename) ?? [];
  const bad = (why: string): never => refuse(`"${filename}" ${why}`);
  if (scheme.startsWith('nbds')) bad('asks for TLS, which is not supported');
  const name = decoded(path.replace(/^\//, '')) ?? bad('has a % without a number behind');
  const named = name === '' ? {} : { export: name };
  const socket = new URLSearchParams(query).get('socket');
  if (scheme === 'nbd+unix') {
    if (authority !== '') bad('has a host, must have none before its third slash');
    return { server: { type: 'unix', path: socket ?? bad('has no ?socket=PATH') }, ...named };
  }
  if (scheme !== 'nbd' && scheme !== 'nbd+tcp') bad(`has scheme "${scheme}", must be nbd or nbd+unix`);
  if (socket !== null) bad('has socket=, which only nbd+unix:// takes');
  const [, bracketed, plain, port] = /^(?:[^@]*@)?(?:\[([^\]]*)\]|([^:]*))(?::(\d*))?$/.exec(authority) ?? [];
  const host = bracketed ?? plain ?? bad('has no host');
  const number = port === undefined || port === '' ? String(PORT) : port;
  return { server: { type: 'inet', host: host === '' ? 'localhost' : host, port: number }, ...named };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
