import createDebug from 'debug';
import type { FuseDevice } from '../src/sys/fuse-device.ts';
import type { BlockFile } from './block-file.ts';

const log = createDebug('blockfuse:fuse');

interface OpenState {
  opens: number;
  /** 0: this server answers. */
  readonly backingId: number;
}

/**
 * Decides at the first open of a disk whether the kernel does its I/O on the host file itself, and stays with that as long as
 * one is open: the kernel refuses opens of one inode that differ.
 */
export class Passthrough {
  private readonly device: Pick<FuseDevice, 'openBacking' | 'closeBacking'>;
  private readonly states = new Map<BlockFile, OpenState>();
  /** Agreed with the kernel (INIT). */
  enabled = false;

  constructor(device: Pick<FuseDevice, 'openBacking' | 'closeBacking'>) {
    this.device = device;
  }

  /** Counts an open. The backing id for its answer, or 0. */
  open(file: BlockFile): number {
    let state = this.states.get(file);
    if (state === undefined) {
      state = { opens: 0, backingId: this.enabled ? this.register(file) : 0 };
      this.states.set(file, state);
    }
    state.opens += 1;
    return state.backingId;
  }

  release(file: BlockFile): void {
    const state = this.states.get(file);
    if (state === undefined) return;
    state.opens -= 1;
    if (state.opens > 0) return;
    this.states.delete(file);
    file.released();
    if (state.backingId === 0) return;
    file.endPassthrough();
    this.device.closeBacking(state.backingId);
  }

  /** Whether the kernel does its I/O now. */
  isOpen(file: BlockFile): boolean {
    return (this.states.get(file)?.backingId ?? 0) !== 0;
  }

  /** Whether anybody has it open, passed through or not. */
  isUsed(file: BlockFile): boolean {
    return this.states.has(file);
  }

  /** Not while the export is drained: what is found then is the graph before a change that is under way. */
  private register(file: BlockFile): number {
    if (file.export.isDrained) return 0;
    const host = file.passthroughFile();
    if (host === undefined) return 0;
    try {
      const id = this.device.openBacking(host.fd);
      file.startPassthrough(host);
      return id;
    } catch (error) {
      log('no passthrough: %s', error instanceof Error ? error.message : error);
      return 0;
    }
  }
}
