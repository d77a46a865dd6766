// The command line of `ess doctor`: the options of `serve`, which name the deployment, and a few of its own.

import { type FlagInfo, flagsText } from '../../config/help.ts';
import { configFrom, type Flag, parseConfigFlags } from '../../config/load.ts';
import type { Config, OptionName } from '../../config/options.ts';
import { EssError } from '../../errors.ts';
import { wholeNumberOf } from '../whole_number.ts';

export interface DoctorOptions {
  readonly config: Config;
  /** Options that somebody gave a value; of the others the value is only a default. */
  readonly given: ReadonlySet<OptionName>;
  readonly isJson: boolean;
  /** Warnings fail too. */
  readonly isStrict: boolean;
  /** For everything together, ms: what is not answered by then is unknown. */
  readonly waitMs: number;
  /** Origin of a running process whose /stats is read too; null without. */
  readonly url: string | null;
}

/** Long enough for a broker and a node that hang, each asked twice; a person waits for it. */
const waitMsDefault = 15_000;
const waitMsMin = 1000;
const waitMsMax = 600_000;

const flags = {
  url: {
    type: 'string',
    placeholder: 'URL',
    description:
      'A running process of this deployment (http://HOST:PORT), whose /stats is looked at as well.',
  },
  'wait-ms': {
    type: 'string',
    placeholder: 'NUMBER',
    description: `How long everything together may take; what has no answer by then is unknown. (${waitMsMin} to ${waitMsMax}; default ${waitMsDefault})`,
  },
  strict: { type: 'boolean', description: 'Exit code 1 on a warning too.' },
  json: { type: 'boolean', description: 'The report is one JSON object.' },
  help: { type: 'boolean', description: 'This text.' },
} as const satisfies Record<string, FlagInfo>;

/** The text of `ess doctor --help`, at most 100 columns wide. */
export function doctorHelpText(): string {
  return `Usage: ess doctor [OPTIONS]

Looks at a deployment as it is now: this machine, Kafka, its topics and consumer group, ClickHouse,
and with --url a running process. Says of each what was found, and of what is not well why it
matters and the command that mends it. Changes nothing.

Options, beside those of serve (ess --help), which name the deployment:
${flagsText(flags)}
Exit code: 0 no error was found, 1 there is an error (with --strict: or a warning), 2 an option is
not valid.
`;
}

/** Reads the command line after `doctor`. Throws EssError `bad_option`. Gives null for --help. */
export function parseDoctorOptions(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  cores: number,
): DoctorOptions | null {
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
    isJson: parsed.values.has('json'),
    isStrict: parsed.values.has('strict'),
    waitMs: wholeNumberOf(
      '--wait-ms',
      parsed.values.get('wait-ms')?.at(-1) ?? String(waitMsDefault),
      waitMsMin,
      waitMsMax,
    ),
    url: urlOf(parsed.values.get('url')?.at(-1)),
  };
}

function urlOf(text: string | undefined): string | null {
  if (text === undefined) return null;
  try {
    const { protocol, origin, pathname, search, username } = new URL(text);
    const isPlain = pathname === '/' && search === '' && username === '';
    if (isPlain && (protocol === 'http:' || protocol === 'https:')) return origin;
  } catch {
    // Said below.
  }
  throw new EssError('bad_option', `--url is ${JSON.stringify(text)}, but must be like http://HOST:8080`);
}
