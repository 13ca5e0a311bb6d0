import type { Repeated } from '../command.ts';
import { readConfig } from './config.ts';
import { parseOptionText } from './option-text.ts';
import { readStep } from './read-step.ts';
import { KIND_NAMES, KINDS } from './step-options.ts';
import type { KindName } from './step-options.ts';
import type { ServeStep } from '../server/messages.ts';

type Given = Readonly<Partial<Record<KindName | 'config', readonly Repeated[]>>>;

/** Everything that the command line says to do, in its order; a file counts where it is named. */
export async function readSteps(given: Given): Promise<ServeStep[]> {
  const all = [...KIND_NAMES, 'config' as const].flatMap((kind) =>
    (given[kind] ?? []).map(({ text, order }) => ({ kind, text, order })),
  );
  const steps: ServeStep[] = [];
  for (const { kind, text } of all.sort((one, other) => one.order - other.order)) {
    if (kind === 'config') steps.push(...(await readConfig(text)));
    else steps.push(readStep(kind, parseOptionText(text, KINDS[kind].implied)));
  }
  return steps;
}
