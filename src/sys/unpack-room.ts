/**
 * Memory that goes to and fro between the pool and a thread, so that small jobs need none of their own:
 *
 *     0 | packed bytes of the jobs of a message | half | what they unpack to | end
 */

const HALF = 512 * 1024;

export interface RoomJob {
  /** Where the packed bytes are, and how many. */
  readonly at: number;
  readonly length: number;
  /** Where what they unpack to begins. */
  readonly out: number;
}

/** The view of the side that has the memory now. */
export class UnpackRoom {
  readonly memory: ArrayBuffer;
  private packedEnd = 0;
  private plainEnd = HALF;

  constructor(memory = new ArrayBuffer(HALF * 2)) {
    this.memory = memory;
  }

  fits(packed: number, plain: number): boolean {
    return this.packedEnd + packed <= HALF && this.plainEnd + plain <= HALF * 2;
  }

  /** Takes in a job that fits. */
  add(packed: Buffer, plain: number): RoomJob {
    const job = { at: this.packedEnd, length: packed.length, out: this.plainEnd };
    packed.copy(this.view(job.at, packed.length));
    this.packedEnd += packed.length;
    this.plainEnd += plain;
    return job;
  }

  view(at: number, length: number): Buffer {
    return Buffer.from(this.memory, at, length);
  }
}
