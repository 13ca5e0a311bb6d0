import { BlockError } from '../src/block/errors.ts';
import type { Inode } from './inode.ts';
import { ROOT_NODE_ID } from './protocol/constants.ts';

/** The inodes that the kernel knows, by number. A number is never used for anything else again. */
export class InodeTable {
  private readonly inodes: (Inode | undefined)[] = [];
  private next = ROOT_NODE_ID;

  constructor(root: Inode) {
    this.number(root);
    root.lookups = 1;
    this.inodes[ROOT_NODE_ID] = root;
  }

  /** Undefined for one that was forgotten. Called for every request. */
  find(ino: number): Inode | undefined {
    return this.inodes[ino];
  }

  /** ESTALE for one that was forgotten. */
  get(ino: number): Inode {
    const inode = this.inodes[ino];
    if (inode === undefined) throw new BlockError('ESTALE', `Cannot find inode "${ino}": it was forgotten`);
    return inode;
  }

  *all(): Generator<Inode> {
    for (const inode of this.inodes) if (inode !== undefined) yield inode;
  }

  /** Gives it its number, for a listing. */
  number(inode: Inode): number {
    if (inode.ino === 0) inode.ino = this.next++;
    return inode.ino;
  }

  /** The kernel is told of it once more. */
  remember(inode: Inode): void {
    this.inodes[this.number(inode)] = inode;
    inode.lookups += 1;
  }

  forget(ino: number, lookups: number): void {
    const inode = this.inodes[ino];
    if (inode === undefined || ino === ROOT_NODE_ID) return;
    inode.lookups -= lookups;
    if (inode.lookups <= 0) this.inodes[ino] = undefined;
  }
}
