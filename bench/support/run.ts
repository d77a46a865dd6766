// The outermost part of every bench: a mistake on the command line is one line and exit code 2, and an interrupt ends
// it by way of the exit handlers, which clean up (service.ts).

import { EssError } from '../../src/errors.ts';

export async function runMain(main: (argv: readonly string[]) => Promise<void>): Promise<void> {
  process.once('SIGINT', () => process.exit(130));
  process.once('SIGTERM', () => process.exit(143));
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof EssError && error.code === 'bad_option')) throw error;
    process.stderr.write(`${error.message}; see --help\n`);
    process.exitCode = 2;
  }
}
