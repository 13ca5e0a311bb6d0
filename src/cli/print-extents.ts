import type { DirtyExtent } from '../block/dirty-extents.ts';
import { print } from './output.ts';
import { renderDirtyExtent } from './render-bitmap.ts';

export interface ExtentPrinter {
  print(extents: Iterable<DirtyExtent>): void;
  end(): void;
}

/** JSON of all extents, or rows of the dirty ones for people. */
export function extentPrinter(json: boolean): ExtentPrinter {
  let before = '[';
  let isHeaded = json;
  const head = (): void => {
    if (!isHeaded) print(row('Offset', 'Length'));
    isHeaded = true;
  };
  return {
    print: (extents) => {
      head();
      for (const extent of extents) {
        if (json) process.stdout.write(`${before}${renderDirtyExtent(extent)}`);
        else if (extent.dirty) print(row(hex(extent.start), hex(extent.length)));
        before = ',\n';
      }
    },
    end: () => {
      head();
      if (json) print(before === '[' ? '[]' : ']');
    },
  };
}

const row = (start: string, length: string): string => `${start.padEnd(15)} ${length}`;
const hex = (value: number): string => (value === 0 ? '0' : `0x${value.toString(16)}`);
