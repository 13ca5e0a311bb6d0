import path from 'node:path';
import { UsageError } from './command.ts';

/** QEMU's rule for node names. */
const VALID = /^[A-Za-z][A-Za-z0-9._-]{0,30}$/;

/** The name that was given, checked, else one made from the image's file name without its ending. */
export function nodeNameFor(image: string, given: string | undefined): string {
  if (given === undefined) return nameFromFile(image.startsWith('json:') ? 'disk' : image);
  if (VALID.test(given)) return given;
  throw new UsageError(
    `node name "${given}" must start with a letter, then hold letters, digits, "-", "." and "_", 31 at most`,
  );
}

function nameFromFile(file: string): string {
  const stem = path.parse(path.basename(file)).name.replaceAll(/[^A-Za-z0-9._-]+/g, '-');
  const name = /^[A-Za-z]/.test(stem) ? stem : `disk-${stem.replace(/^[-._]+/, '')}`;
  return name.slice(0, 31).replace(/[-._]+$/, '');
}
