/** Manual pages in man(7), the language that man-db and mandoc both render. */

export interface PageHead {
  readonly name: string;
  readonly section: 1 | 7 | 8;
  readonly summary: string;
}

/** Text as it is to be read: a dash stays a dash that can be copied, a leading dot is no request. */
export function escape(text: string): string {
  return text
    .replaceAll('\\', String.raw`\e`)
    .replaceAll('-', String.raw`\-`)
    .replaceAll(/^(?=[.'])/gm, String.raw`\&`);
}

export const bold = (text: string): string => String.raw`\fB${escape(text)}\fR`;
export const italic = (text: string): string => String.raw`\fI${escape(text)}\fR`;

/** `-x, --name <value>` with the value in italics, as manuals have it. */
export function flags(text: string): string {
  return text
    .split(/(<[^>]+>|\[[^\]]+\])/)
    .map((part) => {
      if (part.startsWith('<')) return italic(part.slice(1, -1));
      return part.startsWith('[') ? `[${italic(part.slice(1, -1))}]` : part.replaceAll(/[^\s,]+/g, bold);
    })
    .join('');
}

/** A paragraph. `formatted` lines are put as they are. */
export function paragraph(formatted: string): string[] {
  return ['.PP', formatted];
}

/** An entry of a list: the term stands alone on its line. */
export function entry(term: string, formatted: string): string[] {
  return ['.TP', term, formatted === '' ? String.raw`\&` : formatted];
}

/** Lines to type, as they are. */
export function example(command: string): string[] {
  return ['.PP', '.nf', '.RS', bold(command), '.RE', '.fi'];
}

export function section(title: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return [];
  // A paragraph right behind a heading is one already.
  const body = lines[0] === '.PP' && lines[1] !== '.nf' ? lines.slice(1) : lines;
  return [`.SH ${title}`, ...body];
}

export function subsection(title: string, lines: readonly string[]): string[] {
  const body = lines[0] === '.PP' ? lines.slice(1) : lines;
  return [`.SS "${escape(title)}"`, ...body];
}

/** References to other pages, in their order. */
export function seeAlso(pages: readonly string[]): string[] {
  const named = pages.map((page) => {
    const [, name = '', number = ''] = /^(.*)\((\d)\)$/.exec(page) ?? [];
    return `${bold(name)}(${number})`;
  });
  return section('SEE ALSO', [named.join(', ')]);
}

/** The text of a file. `date` is year, month, day. */
export function renderPage(
  head: PageHead,
  lines: readonly string[],
  about: { version: string; date: string },
): string {
  const title = `.TH ${head.name.toUpperCase()} ${head.section} ${about.date} "blockfuse ${about.version}" "blockfuse manual"`;
  const name = ['.ad l', '.SH NAME', `${escape(head.name)} ${String.raw`\-`} ${escape(head.summary)}`];
  return `${[String.raw`.\" Made from the declarations of the commands and drivers.`, title, ...name, ...lines].join('\n')}\n`;
}
