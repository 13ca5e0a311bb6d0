/** Entry of the program. Nothing is imported before the version of Node is known to be new enough to parse it. */
const NEEDED = [22, 15] as const;

function nodeIsTooOld(): boolean {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  return major < NEEDED[0] || (major === NEEDED[0] && minor < NEEDED[1]);
}

// Else Node would open its debugger for it; commands that take long tell how far they are (cli/progress.ts).
process.on('SIGUSR1', () => undefined);

async function main(argv: readonly string[]): Promise<number> {
  const { run } = await import('./cli/run.ts');
  return run(argv);
}

if (nodeIsTooOld()) {
  process.stderr.write(
    `blockfuse: needs Node.js ${NEEDED.join('.')} or later, this is ${process.versions.node}\n`,
  );
  process.exitCode = 2;
} else {
  void main(process.argv.slice(2)).then((code) => {
    process.exitCode = code;
  });
}
