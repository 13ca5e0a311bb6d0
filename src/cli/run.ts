import { isSea } from 'node:sea';
import { SERVE } from './server/self.ts';

/** Runs what `argv` asks for and returns the exit code. The server's way in loads no command line parser. */
export async function run(argv: readonly string[]): Promise<number> {
  if (process.env['DEBUG'] !== undefined) {
    const { directDebug } = await import('./debug-output.ts');
    directDebug();
  }
  if (argv[0] === SERVE) {
    const { serve } = await import('./server/serve.ts');
    return serve();
  }
  if (argv.length === 1 && (argv[0] === '--version' || argv[0] === '-V')) {
    const { VERSION } = await import('./version.ts');
    process.stdout.write(`${VERSION}\n`);
    return 0;
  }
  const { helperCommand, isMountHelper } = await import('./mount-helper.ts');
  const command = isMountHelper(invokedAs()) ? helperCommand(argv) : argv;
  if (command === undefined) return 0;
  const [{ runProgram }, { watchOutput }] = await Promise.all([
    import('./program.ts'),
    import('./output.ts'),
  ]);
  const isPrinted = watchOutput();
  const code = await runProgram(command);
  return (await isPrinted()) ? code : code || 1;
}

/** By which name: one program may have several. */
const invokedAs = (): string => (isSea() ? process.argv0 : (process.argv[1] ?? ''));
