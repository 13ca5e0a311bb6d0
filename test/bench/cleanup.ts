/**
 * Everything the benchmark starts has an undo on this stack from the moment it exists. They run in reverse order: at
 * the end of a row, at the end of the program, and when a signal ends it.
 */
type Undo = () => Promise<void> | void;

const stack: Undo[] = [];
let ending: Promise<void> | undefined;

/** Notes how to undo something; the returned function undoes it early, once. */
export function onCleanup(undo: Undo): () => Promise<void> {
  let done: Promise<void> | undefined;
  const once = (): Promise<void> => (done ??= Promise.resolve(undo()));
  stack.push(once);
  return async () => {
    await once();
    const index = stack.indexOf(once);
    if (index >= 0) stack.splice(index, 1);
  };
}

/** Undoes everything. Errors are shown, none stops the rest. */
export function cleanUp(): Promise<void> {
  return (ending ??= undoAll().finally(() => {
    ending = undefined;
  }));
}

/** SIGINT, SIGTERM and SIGHUP undo everything before the program ends. A second signal does not hurry it. */
export function cleanUpOnSignals(): void {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => {
      process.stderr.write(`\n${signal}: ending what was started ...\n`);
      void cleanUp().then(() => process.exit(code));
    });
  }
}

async function undoAll(): Promise<void> {
  for (let undo = stack.pop(); undo !== undefined; undo = stack.pop()) {
    try {
      await undo();
    } catch (error) {
      process.stderr.write(`${String(error)}\n`);
    }
  }
}
