import type { Child } from '../../../src/block/child.ts';
import type { CheckResult } from '../../../src/block/driver.ts';
import { refuseImage } from '../../../src/block/refuse.ts';
import { eachPiece, SurveyPace } from '../../../src/block/table-survey.ts';
import type { Survey, VisitPlace } from '../../../src/block/table-survey.ts';
import { HEADER_LENGTH } from './header.ts';
import type { Geometry } from './header.ts';

const PIECE = 64 * 1024;
const BITMAP_MAX = 64 * 1024 * 1024;
const MESSAGES_MAX = 100;

export interface ParallelsCheck extends CheckResult {
  /** Clusters that two entries name: nothing here can tell whose they are. */
  shared: number;
}

/**
 * Every BAT entry names a place of its own, on the grid, inside the file. Works on the file; memory is one bit a
 * cluster of it. @param repair sets entries that name no possible place to 0
 */
export async function checkBat(
  file: Child,
  geometry: Geometry,
  subject: string,
  repair: boolean,
): Promise<ParallelsCheck> {
  const run = new Check(file, geometry, repair);
  if (run.places / 8 > BITMAP_MAX) {
    refuseImage(
      subject,
      `the file has ${run.places} clusters`,
      `at most ${BITMAP_MAX * 8} can be checked`,
      'EFBIG',
    );
  }
  await run.scan();
  return run.result;
}

/** The places that entries name, for who lets the file grow. */
export function surveyBat(file: Child, geometry: Geometry, subject: string): Survey {
  const { batEntries, clusterSize, entryUnit } = geometry;
  const each = (visit: VisitPlace): Promise<void> =>
    eachPiece(file, { offset: HEADER_LENGTH, length: batEntries * 4, pace: new SurveyPace() }, (bytes) => {
      for (let at = 0; at < bytes.length; at += 4) {
        const entry = bytes.readUInt32LE(at);
        if (entry !== 0) visit(entry * entryUnit, clusterSize);
      }
    });
  return { file, subject, each };
}

class Check {
  readonly places: number;
  readonly result: ParallelsCheck;
  private readonly file: Child;
  private readonly geometry: Geometry;
  private readonly repair: boolean;
  private readonly used: Uint8Array;
  private last = 0;

  constructor(file: Child, geometry: Geometry, repair: boolean) {
    this.file = file;
    this.geometry = geometry;
    this.repair = repair;
    this.places = Math.ceil(Math.max(0, file.size - geometry.dataOffset) / geometry.clusterSize);
    this.used = new Uint8Array(Math.min(BITMAP_MAX, Math.ceil(this.places / 8)));
    this.result = {
      corruptions: 0,
      leaks: 0,
      checkErrors: 0,
      corruptionsFixed: 0,
      leaksFixed: 0,
      shared: 0,
      imageEndOffset: Math.min(file.size, geometry.dataOffset),
      totalClusters: geometry.batEntries,
      allocatedClusters: 0,
      fragmentedClusters: 0,
      messages: [],
    };
  }

  async scan(): Promise<void> {
    const length = this.geometry.batEntries * 4;
    for (let at = 0; at < length; at += PIECE) {
      const bytes = Buffer.allocUnsafe(Math.min(PIECE, length - at));
      await this.file.read(bytes, HEADER_LENGTH + at);
      for (let entry = 0; entry < bytes.length; entry += 4) {
        const value = bytes.readUInt32LE(entry);
        if (value !== 0) await this.visit((at + entry) / 4, value);
      }
    }
    this.result.leaks = this.places - (this.result.allocatedClusters ?? 0) - this.result.shared;
    if (this.result.leaks > 0) this.say(`${this.result.leaks} clusters are used by nothing`);
  }

  private async visit(index: number, value: number): Promise<void> {
    const { dataOffset, clusterSize, entryUnit } = this.geometry;
    const number = (value * entryUnit - dataOffset) / clusterSize;
    if (!Number.isInteger(number) || number < 0 || number >= this.places) {
      await this.refuse(index, value);
      return;
    }
    const byte = Math.floor(number / 8);
    const bit = 1 << (number % 8);
    const known = this.used[byte] ?? 0;
    if ((known & bit) !== 0) {
      this.result.corruptions += 1;
      this.result.shared += 1;
      this.say(`BAT entry ${index} names the cluster at ${value * entryUnit}, which is used already`);
      return;
    }
    this.used[byte] = known | bit;
    const end = Math.min(this.file.size, dataOffset + (number + 1) * clusterSize);
    this.result.imageEndOffset = Math.max(this.result.imageEndOffset ?? 0, end);
    this.result.allocatedClusters = (this.result.allocatedClusters ?? 0) + 1;
    if (this.last !== 0 && value * entryUnit !== this.last + clusterSize) {
      this.result.fragmentedClusters = (this.result.fragmentedClusters ?? 0) + 1;
    }
    this.last = value * entryUnit;
  }

  private async refuse(index: number, value: number): Promise<void> {
    this.say(`BAT entry ${index} is ${value}, no place of a cluster`);
    if (!this.repair) {
      this.result.corruptions += 1;
      return;
    }
    await this.file.write(Buffer.alloc(4), HEADER_LENGTH + index * 4);
    this.result.corruptionsFixed += 1;
  }

  private say(message: string): void {
    if (this.result.messages.length < MESSAGES_MAX) this.result.messages.push(message);
  }
}
