import { BlockError } from './errors.ts';

/** The id that options mean which name none. */
export const DEFAULT_SECRET = 'key';

/** Passphrases and keys by the id that options name them with (`--object secret,id=...`). */
export class Secrets {
  private readonly byId = new Map<string, Buffer>();
  private readonly asked: Buffer[] = [];

  /** The bytes belong to the store from now on: `wipe` overwrites them. */
  add(id: string, bytes: Buffer): void {
    if (this.byId.has(id))
      throw new BlockError('EEXIST', `Cannot take secret "${id}": there is one with that id already`);
    this.byId.set(id, bytes);
  }

  get(id: string): Buffer | undefined {
    return this.byId.get(id);
  }

  /** Keeps what the user was asked for, to be wiped with the rest. */
  keep(bytes: Buffer): Buffer {
    this.asked.push(bytes);
    return bytes;
  }

  wipe(): void {
    for (const bytes of [...this.byId.values(), ...this.asked]) bytes.fill(0);
    this.byId.clear();
    this.asked.length = 0;
  }
}
