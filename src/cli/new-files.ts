/** Files that a command makes: when it does not come to its end, nothing is left that looks like a whole image. */
import { constants } from 'node:os';
import type { Child } from '../block/child.ts';
import { discardFile } from '../sys/file.ts';
import { complain } from './output.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class NewFiles {
  /** Those that are open for writing, or were. */
  readonly children: Child[] = [];
  private readonly names = new Set<string>();

  /** One that is new, or whose former content is gone. */
  note(filename: string): void {
    this.names.add(filename);
  }

  /** Takes them away: what is still being written to them is nowhere then. */
  discard(): void {
    for (const filename of this.names) {
      try {
        discardFile(filename);
      } catch (error) {
        complain(`warning: "${filename}" is not complete: ${error instanceof Error ? error.message : ''}`);
      }
    }
    this.names.clear();
  }
}

/** Runs `work`; when it fails, or the process is told to end meanwhile, the files are discarded. */
export async function orDiscard<Result>(files: NewFiles, work: () => Promise<Result>): Promise<Result> {
  const end = (signal: NodeJS.Signals): void => {
    files.discard();
    complain(`ended by ${signal}: what was not complete is discarded`);
    process.exit(128 + constants.signals[signal]);
  };
  for (const signal of SIGNALS) process.on(signal, end);
  try {
    return await work();
  } catch (error) {
    files.discard();
    throw error;
  } finally {
    for (const signal of SIGNALS) process.off(signal, end);
  }
}
