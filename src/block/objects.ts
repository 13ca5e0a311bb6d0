/** Things that are not nodes but that nodes refer to by id: throttle groups. Made by `--object` and `object-add`. */
import type { OptionEntries } from './schema.ts';

/** The ids that users may give. */
export function isIdentifier(id: string): boolean {
  return /^[A-Za-z][A-Za-z0-9\-._]*$/.test(id);
}

export interface GraphObject {
  readonly type: string;
  readonly id: string;
  /** A passphrase or key that options name by the id of the object. Never shown. */
  readonly secret?: Buffer;
  /** Who uses it, in words, or undefined: then it may go. */
  user(): string | undefined;
  /** What `qom-list` and `qom-get` show. */
  properties(): Readonly<Record<string, unknown>>;
  /** `qom-set`; throws, nothing changed, when there is no such property or the value won't do. */
  setProperty(name: string, value: unknown): void;
}

export interface ObjectType {
  readonly name: string;
  readonly summary: string;
  readonly options: OptionEntries;
  create(id: string, options: Readonly<Record<string, unknown>>): GraphObject;
}
