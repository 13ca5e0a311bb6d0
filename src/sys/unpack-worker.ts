/** The program of a thread of the pool (unpack-pool.ts): it has no data of the program and no descriptor. */
import { parentPort } from 'node:worker_threads';
import { freeMemory } from '../util/free-memory.ts';
import { decode } from '../util/unpack-decoders.ts';
import { XzBlockDecoder } from '../util/xz-block.ts';
import { asBuffer, own } from './unpack-messages.ts';
import type { UnpackAnswer, UnpackMessage, UnpackReply, UnpackRequest } from './unpack-messages.ts';
import { UnpackRoom } from './unpack-room.ts';

const blocks = new Map<number, XzBlockDecoder>();

function answer(request: UnpackRequest, room: UnpackRoom): UnpackAnswer {
  switch (request.kind) {
    case 'unpack':
      return { kind: 'plain', plain: own(decode(asBuffer(request.packed), request.job)) };
    case 'room': {
      const { place, job } = request;
      const plain = decode(room.view(place.at, place.length), job);
      plain.copy(room.view(place.out, job.size));
      // The next job then gets the same memory.
      freeMemory(plain);
      return { kind: 'done' };
    }
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

function answerOrFail(request: UnpackRequest, room: UnpackRoom): UnpackAnswer {
  try {
    return answer(request, room);
  } catch (error) {
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
}

parentPort?.on('message', ({ requests, room: memory }: UnpackMessage) => {
  const room = new UnpackRoom(memory);
  const answers = requests.map((request) => answerOrFail(request, room));
  const moved = answers.flatMap((reply) => ('plain' in reply ? [reply.plain.buffer] : []));
  const reply: UnpackReply = { answers, room: memory };
  parentPort?.postMessage(reply, [memory, ...moved]);
});
