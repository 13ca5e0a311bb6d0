/** The program of a thread of the pool (unpack-pool.ts): it has no data of the program and no descriptor. */
import { parentPort } from 'node:worker_threads';
import { decode } from '../util/unpack-decoders.ts';
import { XzBlockDecoder } from '../util/xz-block.ts';
import { asBuffer, own } from './unpack-messages.ts';
import type { UnpackAnswer, UnpackRequest } from './unpack-messages.ts';

const blocks = new Map<number, XzBlockDecoder>();

function answer(request: UnpackRequest): UnpackAnswer {
  switch (request.kind) {
    case 'unpack':
      return { kind: 'plain', plain: own(decode(asBuffer(request.packed), request.job)) };
    case 'open':
      blocks.set(request.id, new XzBlockDecoder(request.setup));
      return { kind: 'done' };
    case 'step': {
      const block = blocks.get(request.id);
      if (block === undefined) throw new RangeError('no such block is open');
      const { plain, ...rest } = block.step(asBuffer(request.input));
      return { kind: 'step', plain: own(plain), rest };
    }
    case 'close':
      blocks.delete(request.id);
      return { kind: 'done' };
  }
}

function answerOrFail(request: UnpackRequest): UnpackAnswer {
  try {
    return answer(request);
  } catch (error) {
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
}

parentPort?.on('message', (request: UnpackRequest) => {
  const reply = answerOrFail(request);
  parentPort?.postMessage(reply, 'plain' in reply ? [reply.plain.buffer] : []);
});
