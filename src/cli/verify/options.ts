// The command line of `ess verify`: the options of `serve`, which name the log and the store, and a few of its own.

import { type FlagInfo, flagsText } from '../../config/help.ts';
import { configFrom, type Flag, parseConfigFlags } from '../../config/load.ts';
import type { Config } from '../../config/options.ts';
import { EssError } from '../../errors.ts';

export interface VerifyOptions {
  readonly config: Config;
  readonly isDeep: boolean;
  /** Writes down as lost what is found to be. */
  readonly isAccepting: boolean;
  readonly isJson: boolean;
  /** A running process to ask, as it was given; null to look at log and store from here, if nobody holds the store. */
  readonly url: string | null;
}

const flags = {
  deep: {
    type: 'boolean',
    description:
      'Also compares the ledger with the table: the rows of every range, and that no event is stored twice. Reads the whole table, in ClickHouse.',
  },
  url: {
    type: 'string',
    placeholder: 'URL',
    description:
      'Ask this running process, which has the store. Without it ClickHouse nodes are asked from here, and an embedded store is opened, or, while a process holds it, that one is asked at --host and --port.',
  },
  'accept-losses': {
    type: 'boolean',
    description:
      'Writes what is found to be lost (ledger_gap, records_gone, rows_missing) into the ledger as holes, and proves again: a partition that halted for it goes on. Only once nothing brings the events back: see the section "Lost rows" of docs/operations.md. Implies --deep; with an embedded store ess has to be stopped.',
  },
  json: { type: 'boolean', description: 'What was found is one JSON object, the one of GET /verify.' },
  help: { type: 'boolean', description: 'This text.' },
} as const satisfies Record<string, FlagInfo>;

/** The text of `ess verify --help`, at most 100 columns wide. */
export function verifyHelpText(): string {
  return `Usage: ess verify [OPTIONS]

Proves that nothing was lost or doubled: for every partition of the log, the ledger's ranges against
the log's offsets since its epoch began, and against the dead letters. Changes nothing (without
--accept-losses), and may run while the system takes events: what is in flight is counted as such.

Options, beside those of serve (ess --help):
${flagsText(flags)}
Exit code: 0 exact, 1 something was found (a line each: partition, offsets, what it means, what to
do) or log or store do not answer, 2 an option is not valid, 130 interrupted.
`;
}

/** Reads the command line after `verify`. Throws EssError `bad_option`. Gives null for --help. */
export function parseVerifyOptions(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  cores: number,
): VerifyOptions | null {
  const parsed = parseConfigFlags(
    // -h is spelt out here, since long names only are known there.
    argv.map((argument) => (argument === '-h' ? '--help' : argument)),
    new Map(Object.entries<Flag>(flags)),
  );
  if (parsed.values.has('help')) return null;
  const { config } = configFrom(parsed, env, cores);
  const url = parsed.values.get('url')?.at(-1) ?? null;
  if (url !== null && !(URL.canParse(url) && /^https?:$/.test(new URL(url).protocol))) {
    const text = `--url is ${JSON.stringify(url)}, but must be an address such as http://127.0.0.1:8080`;
    throw new EssError('bad_option', text);
  }
  const isAccepting = parsed.values.has('accept-losses');
  if (isAccepting && url !== null)
    throw new EssError('bad_option', '--accept-losses: it takes the nodes or the data directory, not --url');
  const isDeep = isAccepting || parsed.values.has('deep');
  return { config, isDeep, isAccepting, isJson: parsed.values.has('json'), url };
}
