/** What goes between the pool and its threads: a thread does one request at a time and answers each. */
import type { UnpackJob, XzBlockSetup, XzStep } from '../util/unpack-service.ts';

export type UnpackRequest =
  | { readonly kind: 'unpack'; readonly packed: Uint8Array<ArrayBuffer>; readonly job: UnpackJob }
  | { readonly kind: 'open'; readonly id: number; readonly setup: XzBlockSetup }
  | { readonly kind: 'step'; readonly id: number; readonly input: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'close'; readonly id: number };

export type UnpackAnswer =
  | { readonly kind: 'plain'; readonly plain: Uint8Array<ArrayBuffer> }
  | {
      readonly kind: 'step';
      readonly plain: Uint8Array<ArrayBuffer>;
      readonly rest: Omit<XzStep, 'plain'>;
    }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly message: string };

/** The bytes over memory of their own, which can be handed to another thread: the same where they have that already. */
export function own(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength)
    return new Uint8Array(buffer, byteOffset, byteLength);
  return new Uint8Array(bytes);
}

export const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
