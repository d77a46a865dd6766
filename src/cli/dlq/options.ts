// The options of `ess dlq`: their help text, and the reading of a command line into what is to be done.

import { type FlagInfo, flagsText } from '../../config/help.ts';
import { parseFlags, suggestion } from '../../config/load.ts';
import { EssError } from '../../errors.ts';
import { serviceUrl } from '../service_url.ts';

/** Where a letter is: partition:offset. */
export interface Position {
  readonly partition: number;
  readonly offset: number;
}

/** Which letters: those named, or all that are parked (with this code). */
export type Selection =
  | { readonly type: 'some'; readonly positions: readonly Position[] }
  | { readonly type: 'all'; readonly code: string | null };

export type DlqAction =
  | { readonly type: 'list'; readonly state: string; readonly code: string | null }
  | { readonly type: 'show'; readonly position: Position }
  | { readonly type: 'replay'; readonly letters: Selection; readonly file: string | null }
  | { readonly type: 'discard'; readonly letters: Selection; readonly reason: string };

export interface DlqOptions {
  readonly action: DlqAction;
  readonly url: URL;
  readonly isJson: boolean;
  readonly isQuiet: boolean;
}

const states = ['parked', 'replayed', 'discarded', 'all'] as const;

const flags = {
  url: {
    type: 'string',
    placeholder: 'URL',
    description: 'The service. (default: the host and port that ess serve would take here)',
  },
  state: {
    type: 'string',
    placeholder: 'STATE',
    description: 'list: parked, replayed, discarded or all. (default parked)',
  },
  all: { type: 'boolean', description: 'replay and discard: every letter that is parked now.' },
  code: {
    type: 'string',
    placeholder: 'CODE',
    description: "list, and --all: only letters with this code, such as ClickHouse's 469.",
  },
  with: {
    type: 'string',
    placeholder: 'FILE',
    description:
      "replay of one letter: the event in this file (one JSON object; - is standard input) is stored in its place. Without an id it gets the letter's.",
  },
  reason: {
    type: 'string',
    placeholder: 'TEXT',
    description: 'discard: by whom and why. It is kept with the letter.',
  },
  quiet: { type: 'boolean', description: 'No progress on standard error.' },
  json: { type: 'boolean', description: 'One JSON object a line.' },
  help: { type: 'boolean', description: 'This text.' },
} as const satisfies Record<string, FlagInfo>;

type FlagName = keyof typeof flags;

/** The options that each action takes beside url, quiet, json and help. */
const actions = {
  list: ['state', 'code'],
  show: [],
  replay: ['all', 'code', 'with'],
  discard: ['all', 'code', 'reason'],
} as const satisfies Record<string, readonly FlagName[]>;

const common: readonly FlagName[] = ['url', 'quiet', 'json', 'help'];

/** The text of `ess dlq --help`, at most 100 columns wide. */
export function dlqHelpText(): string {
  return `Usage:
  ess dlq list [--state STATE] [--code CODE]
  ess dlq show P:O
  ess dlq replay P:O... | --all [--code CODE]
  ess dlq replay P:O --with FILE
  ess dlq discard P:O... | --all [--code CODE]   --reason TEXT

Dead letters, by partition:offset: events that the store refused, and records that are no events.
Once the cause is mended, replay stores them: exactly once, however often it is repeated. All goes
through the running service.

Options:
${flagsText(flags)}
replay --all stops when the store refuses again everything that was just replayed.

Exit code: 0 everything was done (or had been done before), 1 something was not, 2 the command line
is not valid, 130 interrupted.
`;
}

/** Reads the command line after `dlq`. Throws EssError `bad_option`. Gives null for --help. */
export function parseDlqOptions(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  cores: number,
): DlqOptions | null {
  const { values, positionals } = parseFlags(
    argv.map((argument) => (argument === '-h' ? '--help' : argument)),
    new Map(Object.entries<FlagInfo>(flags)),
  );
  const text = (name: FlagName): string | undefined => values.get(name)?.at(-1);
  if (values.has('help')) return null;
  const [name, ...rest] = positionals;
  if (name === undefined) bad('say what to do: list, show, replay or discard');
  if (!isAction(name)) {
    bad(`unknown action ${JSON.stringify(name)}${suggestion(name, Object.keys(actions))}`);
  }
  const allowed: readonly string[] = [...common, ...actions[name]];
  for (const given of values.keys()) if (!allowed.includes(given)) bad(`ess dlq ${name} takes no --${given}`);
  return {
    action: actionOf(name, rest, text, values.has('all')),
    url: serviceUrl(text('url'), env, cores),
    isJson: values.has('json'),
    isQuiet: values.has('quiet'),
  };
}

function isAction(name: string): name is keyof typeof actions {
  return Object.hasOwn(actions, name);
}

function actionOf(
  name: keyof typeof actions,
  positionals: readonly string[],
  text: (name: FlagName) => string | undefined,
  isAll: boolean,
): DlqAction {
  const positions = positionals.map(positionOf);
  const [first] = positions;
  const code = text('code') ?? null;
  if (name === 'list') {
    if (first !== undefined) bad('ess dlq list takes no positions: ess dlq show does');
    const state = text('state') ?? 'parked';
    if (!states.some((known) => known === state)) bad(`--state must be one of ${states.join(', ')}`);
    return { type: 'list', state, code };
  }
  if (name === 'show') {
    if (first === undefined || positions.length > 1) bad('ess dlq show needs one position, like 3:17');
    return { type: 'show', position: first };
  }
  if (isAll === (first !== undefined)) bad(`ess dlq ${name} needs positions, like 3:17, or else --all`);
  if (code !== null && !isAll) bad('--code goes with --all');
  const letters: Selection = isAll ? { type: 'all', code } : { type: 'some', positions: distinct(positions) };
  if (name === 'discard') {
    const reason = text('reason') ?? '';
    if (reason.trim() === '') bad('ess dlq discard needs --reason TEXT: by whom and why');
    return { type: 'discard', letters, reason };
  }
  const file = text('with') ?? null;
  if (file !== null && (isAll || positions.length > 1)) bad('--with goes with one position');
  return { type: 'replay', letters, file };
}

function positionOf(value: string): Position {
  const parts = /^(\d{1,4}):(\d{1,15})$/.exec(value);
  if (parts === null) bad(`${JSON.stringify(value)} is no position: partition:offset, like 3:17`);
  return { partition: Number(parts[1]), offset: Number(parts[2]) };
}

function distinct(positions: readonly Position[]): Position[] {
  return [...new Map(positions.map((one) => [`${one.partition}:${one.offset}`, one])).values()];
}

function bad(detail: string): never {
  throw new EssError('bad_option', detail);
}
