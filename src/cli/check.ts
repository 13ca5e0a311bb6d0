import { bool, choice, optional } from '../block/schema.ts';
import { defineCommand } from './command.ts';
import { IMAGE_ARGUMENT, IMAGE_OPTIONS } from './image-arguments.ts';
import { print, printJson } from './output.ts';
import { PROGRESS_OPTION } from './progress-option.ts';

export const checkCommand = defineCommand({
  name: 'check',
  summary: 'Check the tables of an image, and repair them',
  description: [
    'Exit codes as of "qemu-img check": 0 nothing wrong (or all repaired), 2 the image is corrupted, 3 it has leaked ' +
      'clusters but is not corrupted, 1 the check could not be made, 63 the format has no check.',
    'A repair says what it gives up ("Given up: ..."), such as guest offsets whose place nobody knows any more, and frees ' +
      'nothing while something that may name it can not be read. It may be interrupted: another one goes on. --json has the ' +
      'keys of qemu-img; corruptions and leaks are those that are left, corruptions-fixed and leaks-fixed what was repaired.',
  ],
  arguments: [IMAGE_ARGUMENT],
  options: {
    ...IMAGE_OPTIONS,
    repair: {
      schema: optional(choice(['leaks', 'all'], 'What to repair: leaks, or all')),
      value: 'what',
      short: 'r',
    },
    ...PROGRESS_OPTION,
    json: { schema: optional(bool('Print JSON, in the shape of "qemu-img check --output=json"'), false) },
  },
  examples: [
    { command: 'blockfuse check disk.qcow2', text: 'Tell what is wrong' },
    { command: 'blockfuse check --repair all disk.qcow2', text: 'Repair it' },
  ],
  run: async ({ arguments: [image = ''], options }) => {
    const { checkImage, renderCheck, checkExitCode } = await import('./check-image.ts');
    const result = await checkImage(image, options, options.repair ?? 'none');
    if (options.json) printJson(result.json);
    else print(renderCheck(result));
    return checkExitCode(result);
  },
});
