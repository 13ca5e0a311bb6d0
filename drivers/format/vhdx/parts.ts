import type { Child } from '../../../src/block/child.ts';
import type { HeaderPair } from './header-pair.ts';
import type { LogState } from './info.ts';
import type { Metadata } from './metadata.ts';
import type { ReplayedFile } from './overlay.ts';
import type { Regions } from './regions.ts';

/** What an open image is made of. */
export interface VhdxParts {
  readonly file: Child;
  readonly overlay: ReplayedFile;
  readonly headers: HeaderPair;
  readonly regions: Regions;
  readonly metadata: Metadata;
  readonly subject: string;
  readonly logState: LogState;
}
