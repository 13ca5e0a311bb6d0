/**
 * The newstyle handshake. The client asks, the server answers each option with replies, the last of which is an
 * acknowledgement or an error:
 *
 *     magic, flags  <-  ->  flags
 *     STRUCTURED_REPLY -> ACK | error: simple replies, no block status
 *     SET_META_CONTEXT -> META_CONTEXT, ACK | error: no block status
 *     GO               -> INFO..., ACK | error: refused (a server without it is too old)
 */
import { BlockError } from '../../../src/block/errors.ts';
import type { StreamSocket } from '../../../src/sys/stream-socket.ts';
import {
  ExportFlag,
  HandshakeFlag,
  Info,
  MAGIC,
  Option,
  OPTION_ERROR,
  OPTION_ERRORS,
  OptionReply,
} from './wire.ts';

/** Names are at most 4096 bytes, descriptions and error texts as well: nothing longer is believed. */
const REPLY_MAX = 64 * 1024;
const REPLIES_MAX = 256;
const NAME_MAX = 4096;

export interface ExportFacts {
  readonly size: number;
  readonly flags: number;
  readonly structured: boolean;
  /** Number of the context that block status is asked in; undefined without one. */
  readonly contextId: number | undefined;
  /** 0 where the server says nothing. */
  readonly minBlock: number;
  readonly maxBlock: number;
}

export interface HandshakeRequest {
  readonly name: string;
  readonly context: string;
}

interface Reply {
  readonly type: number;
  readonly data: Buffer;
}

/** Rejects with a BlockError whose text is only the reason. */
export async function shakeHands(socket: StreamSocket, request: HandshakeRequest): Promise<ExportFacts> {
  const hello = await take(socket, 18);
  if (hello.readBigUInt64BE(0) !== MAGIC.server) broken('it is no NBD server');
  if (hello.readBigUInt64BE(8) !== MAGIC.option)
    broken('the server speaks the old style of NBD, which is not supported');
  const serverFlags = hello.readUInt16BE(16);
  if ((serverFlags & HandshakeFlag.fixedNewstyle) === 0)
    broken('the server speaks no fixed newstyle, which is needed');
  const flags = Buffer.alloc(4);
  flags.writeUInt32BE(serverFlags & (HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes));
  socket.write(flags);
  const structured = await askStructured(socket);
  const contextId = structured ? await askContext(socket, request) : undefined;
  return { ...(await go(socket, request.name)), structured, contextId };
}

async function askStructured(socket: StreamSocket): Promise<boolean> {
  sendOption(socket, Option.structuredReply, Buffer.alloc(0));
  return (await lastReply(socket, Option.structuredReply)).type === OptionReply.ack;
}

async function askContext(
  socket: StreamSocket,
  { name, context }: HandshakeRequest,
): Promise<number | undefined> {
  const query = Buffer.alloc(4);
  query.writeUInt32BE(1);
  sendOption(socket, Option.setMetaContext, Buffer.concat([counted(name), query, counted(context)]));
  let id: number | undefined;
  await lastReply(socket, Option.setMetaContext, ({ type, data }) => {
    if (type !== OptionReply.metaContext || data.length < 4) return;
    if (data.toString('utf8', 4) === context) id = data.readUInt32BE(0);
  });
  return id;
}

async function go(
  socket: StreamSocket,
  name: string,
): Promise<Pick<ExportFacts, 'size' | 'flags' | 'minBlock' | 'maxBlock'>> {
  const wanted = Buffer.alloc(4);
  wanted.writeUInt16BE(1);
  wanted.writeUInt16BE(Info.blockSize, 2);
  sendOption(socket, Option.go, Buffer.concat([counted(name), wanted]));
  let known: { size: number; flags: number } | undefined;
  let minBlock = 0;
  let maxBlock = 0;
  const last = await lastReply(socket, Option.go, ({ type, data }) => {
    if (type !== OptionReply.info || data.length < 2) return;
    const kind = data.readUInt16BE(0);
    if (kind === Info.export && data.length === 12) {
      known = { size: Number(data.readBigUInt64BE(2)), flags: data.readUInt16BE(10) };
    } else if (kind === Info.blockSize && data.length === 14) {
      minBlock = data.readUInt32BE(2);
      maxBlock = data.readUInt32BE(10);
    }
  });
  if (last.type !== OptionReply.ack) refuseExport(last);
  const { size, flags } = known ?? broken('the server tells no size');
  if (!Number.isSafeInteger(size)) broken(`the size is ${size} bytes, must be less than 2^53`);
  checkBlocks(size, minBlock, maxBlock);
  return { size, flags: (flags & ExportFlag.hasFlags) === 0 ? 0 : flags, minBlock, maxBlock };
}

function checkBlocks(size: number, min: number, max: number): void {
  if (min === 0 && max === 0) return;
  if (min < 1 || min > 65536 || Math.log2(min) % 1 !== 0)
    broken(`the smallest block is ${min} bytes, must be a power of two up to 65536`);
  if (max < min || (max !== 0xffffffff && max % min !== 0))
    broken(`the largest block is ${max} bytes, must be a multiple of ${min}`);
  if (size % min !== 0) broken(`the size is ${size} bytes, must be a multiple of the smallest block, ${min}`);
}

function refuseExport({ type, data }: Reply): never {
  const why = OPTION_ERRORS[type - OPTION_ERROR] ?? `error ${type - OPTION_ERROR}`;
  const text = data.toString('utf8', 0, NAME_MAX);
  const code = type - OPTION_ERROR === 6 ? 'ENOENT' : type - OPTION_ERROR === 2 ? 'EACCES' : 'EINVAL';
  throw new BlockError(code, text === '' ? why : `${why} ("${text}")`);
}

function counted(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length > NAME_MAX)
    throw new BlockError('EINVAL', `a name of ${bytes.length} bytes, must be at most ${NAME_MAX}`);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function sendOption(socket: StreamSocket, option: number, data: Buffer): void {
  const head = Buffer.alloc(16);
  head.writeBigUInt64BE(MAGIC.option);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(data.length, 12);
  socket.write(head, data);
}

/** The reply that ends the answers to an option; those before it go to `each`. */
async function lastReply(
  socket: StreamSocket,
  option: number,
  each: (reply: Reply) => void = () => {},
): Promise<Reply> {
  for (let count = 0; count < REPLIES_MAX; count += 1) {
    const head = await take(socket, 20);
    if (head.readBigUInt64BE(0) !== MAGIC.optionReply || head.readUInt32BE(8) !== option)
      broken('the server answers something else than was asked');
    const type = head.readUInt32BE(12);
    const length = head.readUInt32BE(16);
    if (length > REPLY_MAX) broken(`an answer has ${length} bytes, must have at most ${REPLY_MAX}`);
    const reply = { type, data: await take(socket, length) };
    if (type === OptionReply.ack || type >= OPTION_ERROR) return reply;
    each(reply);
  }
  return broken(`the server gives over ${REPLIES_MAX} answers to one question`);
}

async function take(socket: StreamSocket, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  if (length > 0) await socket.read(bytes);
  return bytes;
}

function broken(why: string): never {
  throw new BlockError('EPROTO', why);
}
