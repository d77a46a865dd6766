// A bench's command line: the numbers that scale it, and what all benches have in common. Runs in the bench's process.

import { parseArgs } from 'node:util';
import { optionFlag } from '../../src/config/options.ts';
import { EssError } from '../../src/errors.ts';

export interface NumberOption {
  readonly description: string;
  /** Used where the command line says nothing: small enough for a test. */
  readonly default: number;
  readonly min: number;
  /** Used with --save where the command line says nothing. @default `default` */
  readonly defaultSaved?: number;
}

export interface CommonOptions {
  /** Append the result to `results`; without it a run leaves no file. */
  readonly save: boolean;
  /** Folder of the result files. */
  readonly results: string;
  /** Folder in which data directories are made, and removed again. Its disk is part of what is measured. */
  readonly dir: string;
  /** Further flags for every `ess`, without the dashes. */
  readonly ess: Readonly<Record<string, string>>;
}

export type BenchOptions<Name extends string> = CommonOptions & { readonly numbers: Record<Name, number> };

/** Reads the command line. `--help` prints the options and ends the process. Throws `bad_option`. */
export function readOptions<const Name extends string>(
  what: string,
  numbers: Readonly<Record<Name, NumberOption>>,
  argv: readonly string[],
  defaultDir: string,
): BenchOptions<Name> {
  const names = Object.keys(numbers) as Name[];
  const strings = Object.fromEntries(names.map((name) => [optionFlag(name), { type: 'string' as const }]));
  let values: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;
  try {
    ({ values } = parseArgs({
      args: [...argv],
      options: {
        ...strings,
        save: { type: 'boolean', default: false },
        results: { type: 'string', default: 'bench/results' },
        dir: { type: 'string', default: defaultDir },
        ess: { type: 'string', multiple: true, default: [] },
        help: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    throw new EssError('bad_option', error instanceof Error ? error.message : String(error));
  }
  if (values['help'] === true) {
    process.stdout.write(helpText(what, numbers));
    process.exit(0);
  }
  const save = values['save'] === true;
  const read = {} as Record<Name, number>;
  for (const name of names) {
    const option = numbers[name];
    const text = values[optionFlag(name)];
    const value =
      text === undefined ? ((save ? option.defaultSaved : undefined) ?? option.default) : Number(text);
    if (!(value >= option.min)) {
      throw new EssError('bad_option', `--${optionFlag(name)} must be a number of at least ${option.min}`);
    }
    read[name] = value;
  }
  const flags = (Array.isArray(values['ess']) ? values['ess'] : []).map((text: unknown) => {
    const [name = '', ...rest] = String(text).split('=');
    return [name, rest.join('=')];
  });
  return {
    save,
    results: String(values['results']),
    dir: String(values['dir']),
    ess: Object.fromEntries(flags),
    numbers: read,
  };
}

function helpText(what: string, numbers: Readonly<Record<string, NumberOption>>): string {
  const lines = Object.entries(numbers).map(([name, option]) => {
    const saved = option.defaultSaved === undefined ? '' : `, with --save ${option.defaultSaved}`;
    return [`--${optionFlag(name)} N`, `${option.description} (${option.default}${saved})`];
  });
  lines.push(
    ['--ess NAME=VALUE', 'a flag for every ess that is started, such as sink-linger-ms=100; may be repeated'],
    ['--dir FOLDER', 'where data directories are made and removed again (the folder for temporary files)'],
    ['--save', 'append the result to the result file'],
    ['--results FOLDER', 'folder of the result files (bench/results)'],
  );
  return `${what}\n\n${lines.map(([flag = '', text = '']) => `  ${flag.padEnd(24)} ${text}\n`).join('')}`;
}
