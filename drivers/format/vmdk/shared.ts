import { DecompressedCache } from '../../../src/block/decompressed-cache.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import type { UnpackService } from '../../../src/util/unpack-service.ts';
import { MAX_DIRECTORIES } from './geometry.ts';
import type { Need } from './need.ts';
import { TableCache } from './table-cache.ts';
import type { WriteBack } from './write-back.ts';
import type { WriteGate } from './write-gate.ts';

/** What the extents of one image share: the bounds on memory, the gate before writing, the slot for waiting. */
export class SharedState {
  readonly subject: string;
  readonly need: Need;
  readonly gate: WriteGate;
  readonly unpacker: UnpackService;
  readonly cache = new TableCache();
  readonly inflated = new DecompressedCache();
  readonly writeBacks: WriteBack[] = [];
  readonly hasBacking: () => boolean;
  readonly warn: (message: string) => void;
  private directories = 0;

  constructor(parts: Pick<SharedState, 'subject' | 'need' | 'gate' | 'unpacker' | 'hasBacking' | 'warn'>) {
    this.subject = parts.subject;
    this.need = parts.need;
    this.gate = parts.gate;
    this.unpacker = parts.unpacker;
    this.hasBacking = parts.hasBacking;
    this.warn = parts.warn;
  }

  /** Asks for memory for a grain directory before anything is read on the word of a header. */
  reserveDirectory(bytes: number): void {
    this.directories += bytes;
    if (this.directories <= MAX_DIRECTORIES) return;
    refuseImage(
      this.subject,
      `its grain directories take ${this.directories} bytes`,
      `must be at most ${MAX_DIRECTORIES}`,
    );
  }

  /** Brings the changed tables of all extents to disk. */
  readonly writeBackAll = async (): Promise<void> => {
    for (const writeBack of this.writeBacks) await writeBack.flush();
  };
}
