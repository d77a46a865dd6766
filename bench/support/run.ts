// The outermost part of every bench: a mistake on the command line is one line and exit code 2.

import { EssError } from '../../src/errors.ts';

export async function runMain(main: (argv: readonly string[]) => Promise<void>): Promise<void> {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof EssError && error.code === 'bad_option')) throw error;
    process.stderr.write(`${error.message}; see --help\n`);
    process.exitCode = 2;
  }
}
