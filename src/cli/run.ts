import { SERVE } from './server/self.ts';

/** Runs what `argv` asks for and returns the exit code. The server's way in loads no command line parser. */
export async function run(argv: readonly string[]): Promise<number> {
  if (argv[0] === SERVE) {
    const { serve } = await import('./server/serve.ts');
    return serve();
  }
  if (argv.length === 1 && (argv[0] === '--version' || argv[0] === '-V')) {
    const { VERSION } = await import('./version.ts');
    process.stdout.write(`${VERSION}\n`);
    return 0;
  }
  const { runProgram } = await import('./program.ts');
  return runProgram(argv);
}
