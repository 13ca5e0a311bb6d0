/** A shape of a format, and what can be done with images of it beside reading them. */
export interface Subformat {
  /** As the image, and `create`, name it. */
  readonly name: string;
  readonly write: boolean;
  readonly create: boolean;
}

/** What a driver says of itself for `blockfuse formats`; images tell by what they do. */
export interface Abilities {
  /** No disk of this driver is ever written. */
  readonly onlyRead?: true;
  readonly subformats?: readonly Subformat[];
}

/** Each shape with the letters of what it can: `w` written, `c` created. */
export function subformats(shapes: Readonly<Record<string, 'wc' | 'w' | 'c' | ''>>): Subformat[] {
  return Object.entries(shapes).map(([name, can]) => ({
    name,
    write: can.includes('w'),
    create: can.includes('c'),
  }));
}
