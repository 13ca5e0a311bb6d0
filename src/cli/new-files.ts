/** Files that a command makes: when it does not come to its end, nothing is left that looks like a whole image. */
import { constants } from 'node:os';
import type { Child } from '../block/child.ts';
import { discardFile } from '../sys/file.ts';
import { complain } from './output.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class NewFiles {
  /** Those that are open for writing, or were. */
  readonly children: Child[] = [];
  private readonly names = new Map<string, boolean>();

  /** @param isNew false: there was one of that name, and what it held is gone already */
  note(filename: string, isNew: boolean): void {
    this.names.set(filename, isNew);
  }

  /** Takes the new ones away and empties the others; they are closed, or the process ends. */
  discard(): void {
    for (const [filename, isNew] of this.names) {
      try {
        discardFile(filename, isNew);
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
