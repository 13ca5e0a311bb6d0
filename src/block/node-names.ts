import { BlockError } from './errors.ts';

const WANTED = 'a letter, then at most 30 letters, digits, "-", "." or "_"';

/** Names of nodes that are being opened, so that two can't get the same one. */
export class NodeNames {
  private readonly isTaken: (name: string) => boolean;
  private readonly reserved = new Set<string>();
  private count = 0;

  constructor(isTaken: (name: string) => boolean) {
    this.isTaken = isTaken;
  }

  /** The name given, or one made up. Release it when the node is open, or has failed to. */
  reserve(given: unknown): string {
    const name = typeof given === 'string' ? given : this.makeUp();
    if (typeof given === 'string' && !/^[A-Za-z][A-Za-z0-9\-._]{0,30}$/.test(name))
      throw new BlockError('EINVAL', `Cannot name a node "${name}": must be ${WANTED}`);
    if (this.isTaken(name) || this.reserved.has(name))
      throw new BlockError('EEXIST', `Cannot name a node "${name}": there is one of that name already`);
    this.reserved.add(name);
    return name;
  }

  release(name: string): void {
    this.reserved.delete(name);
  }

  /** No user can give such a name. */
  private makeUp(): string {
    this.count += 1;
    return `#block${String(this.count).padStart(3, '0')}`;
  }
}
