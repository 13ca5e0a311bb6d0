import { BlockError } from './errors.ts';

/** The id that options mean which name none. */
export const DEFAULT_SECRET = 'key';

/**
 * Asks the user for a key; rejects when that can't be.
 * @param isNew it becomes the key of an image: a typing error would not be noticed
 */
export type AskSecret = (subject: string, isNew: boolean) => Promise<Buffer>;

/** Passphrases and keys by the id that options name them with (`--object secret,id=...`). */
export class Secrets {
  private readonly byId = new Map<string, Buffer>();
  private readonly asked = new Map<string, Buffer>();

  /** The bytes belong to the store from now on: `wipe` overwrites them. */
  add(id: string, bytes: Buffer): void {
    if (this.byId.has(id))
      throw new BlockError('EEXIST', `Cannot take secret "${id}": there is one with that id already`);
    this.byId.set(id, bytes);
  }

  get(id: string): Buffer | undefined {
    return this.byId.get(id);
  }

  /** What the user has typed for an image before. */
  typed(subject: string): Buffer | undefined {
    return this.asked.get(subject);
  }

  /** Keeps what the user was asked for, to be wiped with the rest. */
  keep(subject: string, bytes: Buffer): Buffer {
    this.asked.set(subject, bytes);
    return bytes;
  }

  wipe(): void {
    for (const bytes of [...this.byId.values(), ...this.asked.values()]) bytes.fill(0);
    this.byId.clear();
    this.asked.clear();
  }
}
