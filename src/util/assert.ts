/** For the default branch of an exhaustive switch: a value that the types say can't be. */
export function assertNever(value: never): never {
  throw new TypeError(`Unexpected value: ${String(value)}`);
}
