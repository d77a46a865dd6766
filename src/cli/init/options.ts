// The command line of `ess init`: the options of `serve`, which name what is to be made, and a few of its own.

import { type FlagInfo, flagsText } from '../../config/help.ts';
import { configFrom, type Flag, parseConfigFlags } from '../../config/load.ts';
import type { Config, OptionName } from '../../config/options.ts';
import { wholeNumberOf } from '../whole_number.ts';

export interface InitOptions {
  readonly config: Config;
  /** Options that somebody gave a value; of the others the value is only a default. */
  readonly given: ReadonlySet<OptionName>;
  /** May change what exists. */
  readonly isApply: boolean;
  readonly isJson: boolean;
  /** How long to wait for everything to be reached, ms, all waits together. */
  readonly waitMs: number;
}

const waitMsDefault = 120_000;
const waitMsMax = 3_600_000;

const flags = {
  apply: {
    type: 'boolean',
    description:
      'Also changes what exists and differs, where that loses nothing: settings of topics and tables, missing columns, more partitions where --partitions asks for them (which sends new events of a key to another partition), and shards that were added at the end of --clickhouse, while no sink is running.',
  },
  'wait-ms': {
    type: 'string',
    placeholder: 'NUMBER',
    description: `How long to wait for Kafka and ClickHouse to be there. (0 to ${waitMsMax}; default ${waitMsDefault})`,
  },
  json: { type: 'boolean', description: 'What was done and found is one JSON object.' },
  help: { type: 'boolean', description: 'This text.' },
} as const satisfies Record<string, FlagInfo>;

/** The text of `ess init --help`, at most 100 columns wide. */
export function initHelpText(): string {
  return `Usage: ess init [OPTIONS]

Makes what the service needs and what is missing: the topics in Kafka, the database and tables on
every ClickHouse node, or the log and the store in the data directory. Checks what is there, and
changes none of it without --apply. Safe to repeat, and to run several times at once.

Options, beside those of serve (ess --help):
${flagsText(flags)}
Exit code: 0 everything is as wanted, 1 something differs or cannot be reached, 2 an option is not
valid.
`;
}

/** Reads the command line after `init`. Throws EssError `bad_option`. Gives null for --help. */
export function parseInitOptions(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  cores: number,
): InitOptions | null {
  const parsed = parseConfigFlags(
    // -h is spelt out here, since long names only are known there.
    argv.map((argument) => (argument === '-h' ? '--help' : argument)),
    new Map(Object.entries<Flag>(flags)),
  );
  if (parsed.values.has('help')) return null;
  const { config, given } = configFrom(parsed, env, cores);
  return {
    config,
    given,
    isApply: parsed.values.has('apply'),
    isJson: parsed.values.has('json'),
    waitMs: wholeNumberOf(
      '--wait-ms',
      parsed.values.get('wait-ms')?.at(-1) ?? String(waitMsDefault),
      0,
      waitMsMax,
    ),
  };
}
