import { QcowImage } from './image.ts';

export class EncryptedQcowImage extends QcowImage {
  /** A hole of the file would be decrypted to noise. */
  tryDiscard(_offset: number, length: number): number {
    return length;
  }
}
