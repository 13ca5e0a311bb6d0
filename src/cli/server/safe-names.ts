/** Names of anything as names of files. */

const NAME_MAX = 200;

/** What has to be known of something to name it. */
export interface Named {
  readonly id: string;
  readonly name: string;
}

/**
 * A file name for each, in their order: the name itself where that can be one and nobody before has it; else what is left
 * of it, and `~` and the id. At most 200 bytes.
 */
export function safeNames(all: readonly Named[]): string[] {
  const taken = new Set<string>();
  return all.map(({ id, name }) => {
    let safe = safePart(name, NAME_MAX);
    if (safe !== name || taken.has(safe)) safe = numbered(name, safePart(id, NAME_MAX / 2));
    for (let count = 2; taken.has(safe); count += 1)
      safe = numbered(name, `${safePart(id, NAME_MAX / 2)}~${count}`);
    taken.add(safe);
    return safe;
  });
}

function numbered(name: string, number: string): string {
  return `${safePart(name, NAME_MAX - 1 - Buffer.byteLength(number))}~${number}`;
}

/** Without `/`, control characters and what is no text; never empty, `.` or `..`; cut between characters. */
function safePart(name: string, max: number): string {
  const plain = name
    .replaceAll(/[\p{Cc}/\uFFFD]/gu, '_')
    .replace(/^\.{0,2}$/, (dots) => '_'.repeat(dots.length || 1));
  if (Buffer.byteLength(plain) <= max) return plain;
  let cut = '';
  let length = 0;
  for (const character of plain) {
    length += Buffer.byteLength(character);
    if (length > max) break;
    cut += character;
  }
  return cut;
}
