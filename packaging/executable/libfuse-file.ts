/** Stands in for src/sys/libfuse-file.ts. */
import { loadEmbedded } from './embedded-library.ts';

export function withLibfuse(load: (path: string) => void): void {
  loadEmbedded('libfuse.so', load);
}
