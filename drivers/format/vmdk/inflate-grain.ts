import { inflate, inflateRaw } from 'node:zlib';
import type { UnpackService } from '../../../src/util/unpack-service.ts';

/** RFC 1950: method 8, and the first two bytes are a multiple of 31. The specification says deflate; all write zlib. */
const hasZlibHeader = (bytes: Buffer): boolean =>
  bytes.length >= 2 && ((bytes[0] ?? 0) & 15) === 8 && bytes.readUInt16BE(0) % 31 === 0;

/** Inflates a grain into `room`, which it must fill, on the threads of the service. `stored` stays as it is until then. */
export function inflateGrain(service: UnpackService, stored: Buffer, room: Buffer): Promise<void> {
  return service.unpackInto(
    stored,
    { packing: hasZlibHeader(stored) ? 'zlib' : 'deflate', size: room.length },
    room,
  );
}

/** Inflates the last grain of a disk: writers fill it up or don't. */
export function inflateLastGrain(stored: Buffer, most: number): Promise<Buffer> {
  const unpack = hasZlibHeader(stored) ? inflate : inflateRaw;
  return new Promise((resolve, reject) => {
    unpack(stored, { maxOutputLength: most }, (error, grain) => {
      if (error === null) resolve(grain);
      else reject(error);
    });
  });
}
