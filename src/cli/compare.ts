import { bool, optional, text } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import type { ImageComparison } from './compare-images.ts';
import { IMAGE_OPTIONS } from './image-arguments.ts';
import { complainOf, print, printJson } from './output.ts';
import { PROGRESS_OPTION } from './progress-option.ts';

export const compareCommand = defineCommand({
  name: 'compare',
  summary: 'Tell whether two images hold the same disk',
  description: ['Exit codes as of "qemu-img compare": 0 the same, 1 different, 2 it could not be told.'],
  arguments: [
    { name: 'image', summary: 'An image' },
    { name: 'other', summary: 'The image to compare it with' },
  ],
  options: {
    ...IMAGE_OPTIONS,
    'other-format': { schema: optional(text('Format of the other image')), value: 'name', short: 'F' },
    strict: {
      schema: optional(
        bool('Different sizes, and data stored otherwise (a hole, zeroes), are a difference'),
        false,
      ),
      short: 's',
    },
    ...PROGRESS_OPTION,
    json: { schema: optional(bool('Print JSON'), false) },
  },
  examples: [{ command: 'blockfuse compare disk.vmdk disk.qcow2', text: 'Compare what two images read as' }],
  run: async ({ arguments: [image = '', other = ''], options }) => {
    const { compareImages } = await import('./compare-images.ts');
    const result = await compareImages(image, other, options).catch((error: unknown) => {
      complainOf(error, options.json);
    });
    if (result === undefined) return 2;
    const { difference, sizesDiffer, statusDifference } = result;
    const strictly = options.strict && (sizesDiffer || statusDifference !== undefined);
    const same = difference === undefined && !strictly;
    if (options.json) {
      const places = { difference: difference ?? null, 'status-difference': statusDifference ?? null };
      printJson({ identical: same, 'sizes-differ': sizesDiffer, ...places });
    } else print(describe(result, options.strict));
    return same ? 0 : 1;
  },
});

function describe({ difference, sizesDiffer, statusDifference }: ImageComparison, strict: boolean): string {
  if (difference !== undefined) return `Content mismatch at offset ${difference}!`;
  if (statusDifference !== undefined) return `Strict mode: Offset ${statusDifference} block status mismatch!`;
  if (!sizesDiffer) return 'Images are identical.';
  if (strict) return 'Strict mode: Image size mismatch!';
  return 'Images are identical.\nTheir sizes differ; what one has more is zero.';
}
