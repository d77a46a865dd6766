// The options of `ess send`: their table, their help text, and the reading of a command line into SendOptions.

import { type FlagInfo, flagsText } from '../../config/help.ts';
import { parseFlags } from '../../config/load.ts';
import { EssError } from '../../errors.ts';
import { parseTime, type TimeFormat, TimeZone, timeFormats } from './time.ts';

/** The members of an event that ESS gives a meaning. */
export const eventMembers = ['id', 'type', 'time', 'subject', 'source', 'key'] as const;
export type EventMember = (typeof eventMembers)[number];

/** How an input file is to be read. */
export type InputFormat = 'ndjson' | 'json' | 'csv';

export interface SendOptions {
  /** Where batches are posted, query included. */
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Names of files, '-' for standard input; at least one. */
  readonly files: readonly string[];
  readonly format: InputFormat | 'auto';
  /** Path of the array in a JSON document; empty when the document itself is the array. */
  readonly items: readonly string[];
  /** One character, or null for a comma (a tab in *.tsv). */
  readonly delimiter: string | null;
  /** True if CSV fields that read as JSON numbers become numbers. */
  readonly hasNumbers: boolean;
  /** Which field of the row gives which member of the event. */
  readonly fields: ReadonlyMap<EventMember, string>;
  /** Members that every event gets: name to JSON text. */
  readonly constants: ReadonlyMap<string, string>;
  readonly isIdFromContent: boolean;
  readonly timeFormat: TimeFormat;
  readonly timeZone: TimeZone;
  readonly batchEventsMax: number;
  readonly batchBytesMax: number;
  /** Requests in flight at once. */
  readonly concurrency: number;
  /** Milliseconds without any progress after which sending is given up. */
  readonly retryMs: number;
  readonly isGzip: boolean;
  readonly isQuiet: boolean;
  readonly isJson: boolean;
}

const formats = ['auto', 'ndjson', 'json', 'csv'] as const;
const acks = ['memory', 'log', 'store'] as const;

/** Ranges of the numbers, inclusive, with their defaults. */
const numbers = {
  // 1,000 events of a few hundred bytes: large enough that the round trip does not matter.
  'batch-events': { min: 1, max: 100_000, default: 1000 },
  // An eighth of the body that the service takes by default.
  'batch-bytes': { min: 1024, max: 256 * 1024 * 1024, default: 1024 * 1024 },
  concurrency: { min: 1, max: 256, default: 4 },
  'retry-seconds': { min: 0, max: 86_400, default: 60 },
} as const;

const flags = {
  url: {
    type: 'string',
    placeholder: 'URL',
    description: 'The service. (default http://127.0.0.1:8080)',
  },
  ack: {
    type: 'string',
    placeholder: 'STAGE',
    description: 'What counts as accepted: memory, log or store. (default: what the service is set to)',
  },
  header: {
    type: 'string',
    isRepeatable: true,
    placeholder: 'NAME:VALUE',
    description: 'A header of every request, for example for a proxy in front of the service. Repeatable.',
  },
  format: {
    type: 'string',
    placeholder: 'FORMAT',
    description:
      'ndjson (one object a line), json (an array of objects, or objects one after the other), csv (the first row names the columns), or auto: by the file name (.ndjson, .jsonl, .json, .geojson, .csv, .tsv), otherwise by the first character: [ json, { ndjson, anything else csv. (default auto)',
  },
  items: {
    type: 'string',
    placeholder: 'PATH',
    description:
      'The array is a member of the JSON document: features, or data.rows for one inside another. Implies --format json.',
  },
  delimiter: {
    type: 'string',
    placeholder: 'CHARACTER',
    description: 'Separates CSV fields; \\t is a tab. (default a comma, a tab for .tsv)',
  },
  'no-numbers': {
    type: 'boolean',
    description:
      'CSV fields stay strings. Otherwise those that are written as JSON numbers become numbers (12, -0.5, 1e3; not 007, +1 or 1,000), except in columns called id, type, time, subject, source or key.',
  },
  id: {
    type: 'string',
    placeholder: 'FIELD',
    description:
      "The row's field (CSV column, JSON member, or path like properties.code) that is the event's id.",
  },
  type: { type: 'string', placeholder: 'FIELD', description: "The field that is the event's type." },
  time: {
    type: 'string',
    placeholder: 'FIELD',
    description:
      "The field that is the event's time. It is sent as RFC 3339 in UTC with milliseconds. Without this option a field called time is taken if there is one.",
  },
  subject: { type: 'string', placeholder: 'FIELD', description: "The field that is the event's subject." },
  source: { type: 'string', placeholder: 'FIELD', description: "The field that is the event's source." },
  key: { type: 'string', placeholder: 'FIELD', description: "The field that is the event's partition key." },
  set: {
    type: 'string',
    isRepeatable: true,
    placeholder: 'NAME=TEXT',
    description:
      'A member that every event gets, as a string; it replaces one of the same name in the row. Repeatable.',
  },
  'id-from-content': {
    type: 'boolean',
    description:
      "The id is a hash of the row's content, followed by -2, -3 and so on for rows that are repeated in the input: repeated rows stay separate events, and the same input sent again adds nothing. The order of members or columns, white space and the options above do not count; what counts as repeated are all rows of all files of one command. Takes about 40 bytes of memory a row, and at most 16 million different rows.",
  },
  'time-format': {
    type: 'string',
    placeholder: 'FORMAT',
    description:
      'How times are written: iso (2001-01-10 or 2001/01/10, T or a space, 18:20[:05[.678]], Z, UTC or +01:00), mdy (1/8/2001, 1/8/90, with a time and AM or PM if wanted), dmy (8/1/2001, 8.1.2001), month_name (Jan 8 2001, 8 January 2001), epoch_s, epoch_ms, or auto: all of these but dmy, and of numbers only those with 9 or 10 digits (seconds) and with 12 or 13 (milliseconds). Two-digit years 69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068. (default auto)',
  },
  'time-zone': {
    type: 'string',
    placeholder: 'ZONE',
    description: 'Zone of times without one: a name like Europe/Zurich, or +01:00. (default UTC)',
  },
  'batch-events': { type: 'string', placeholder: 'NUMBER', description: 'Most events in one request.' },
  'batch-bytes': {
    type: 'string',
    placeholder: 'NUMBER',
    description: 'Most bytes in one request before compression; a larger event goes alone.',
  },
  concurrency: { type: 'string', placeholder: 'NUMBER', description: 'Requests in flight at once.' },
  'retry-seconds': {
    type: 'string',
    placeholder: 'NUMBER',
    description:
      'Gives up after so long without any progress. A request has failed when nothing comes for 30 s.',
  },
  gzip: { type: 'boolean', description: 'Compresses what is sent.' },
  quiet: { type: 'boolean', description: 'No progress on standard error.' },
  json: { type: 'boolean', description: 'The summary is one JSON object.' },
  help: { type: 'boolean', description: 'This text.' },
} as const satisfies Record<string, FlagInfo>;

type FlagName = keyof typeof flags;

/** The text of `ess send --help`, at most 100 columns wide. */
export function sendHelpText(): string {
  const told = Object.entries<FlagInfo>(flags).map(([name, flag]) => {
    const range = isNumberName(name) ? numbers[name] : null;
    const bounds = range === null ? '' : ` (${range.min} to ${range.max}; default ${range.default})`;
    return [name, { ...flag, description: flag.description + bounds }];
  });
  return `Usage: ess send [OPTIONS] FILE... | -

Sends the rows of files, or of standard input (-), as events: NDJSON, a JSON array, or CSV. Rows
without an id get one before they are first sent, so that a repeated request never makes a second
event.

Options:
${flagsText(Object.fromEntries(told))}
A row that cannot be sent, such as one whose time cannot be read, is named by file and line; the
others are sent.

Exit code: 0 every row was accepted, 1 some were not, 2 the command line is not valid,
130 interrupted.
`;
}

/** Reads the command line after `send`. Throws EssError `bad_option`. Gives null for --help. */
export function parseSendOptions(argv: readonly string[]): SendOptions | null {
  const { values, positionals } = parseFlags(
    // -h is spelt out here, since parseFlags knows long names only.
    argv.map((argument) => (argument === '-h' ? '--help' : argument)),
    new Map(Object.entries<FlagInfo>(flags)),
  );
  const text = (name: FlagName): string | undefined => values.get(name)?.at(-1);
  const has = (name: FlagName): boolean => values.has(name);
  if (has('help')) return null;
  if (positionals.length === 0) bad('name at least one FILE, or - for standard input');
  if (positionals.filter((file) => file === '-').length > 1) bad('standard input (-) can be read only once');

  const items = text('items');
  const path = items === undefined ? [] : items.split('.');
  if (path.includes('')) bad(`--items is ${quote(items)}, but must be names separated by dots`);
  const format = choice('format', text('format'), formats) ?? 'auto';
  if (items !== undefined && format !== 'auto' && format !== 'json') bad('--items needs --format json');

  const timeZone = zone(text('time-zone'));
  const timeFormat = choice('time-format', text('time-format'), timeFormats) ?? 'auto';
  const constants = readConstants(values.get('set') ?? [], timeFormat, timeZone);
  const fields = new Map<EventMember, string>();
  for (const member of eventMembers) {
    const field = text(member);
    if (field === undefined) continue;
    if (field === '') bad(`--${member} needs the name of a field`);
    if (constants.has(member)) bad(`--${member} and --set ${member}=... exclude each other`);
    fields.set(member, field);
  }
  if (has('id-from-content') && fields.has('id')) bad('--id and --id-from-content exclude each other');

  return {
    url: postUrl(text('url') ?? 'http://127.0.0.1:8080', choice('ack', text('ack'), acks)),
    headers: readHeaders(values.get('header') ?? []),
    files: positionals,
    format: items === undefined ? format : 'json',
    items: path,
    delimiter: delimiter(text('delimiter')),
    hasNumbers: !has('no-numbers'),
    fields,
    constants,
    isIdFromContent: has('id-from-content'),
    timeFormat,
    timeZone,
    batchEventsMax: number('batch-events', text('batch-events')),
    batchBytesMax: number('batch-bytes', text('batch-bytes')),
    concurrency: number('concurrency', text('concurrency')),
    retryMs: number('retry-seconds', text('retry-seconds')) * 1000,
    isGzip: has('gzip'),
    isQuiet: has('quiet'),
    isJson: has('json'),
  };
}

function bad(detail: string): never {
  throw new EssError('bad_option', detail);
}

function quote(text: string | undefined): string {
  return JSON.stringify(text ?? '');
}

function isNumberName(name: string): name is keyof typeof numbers {
  return Object.hasOwn(numbers, name);
}

function number(name: keyof typeof numbers, text: string | undefined): number {
  const range = numbers[name];
  if (text === undefined) return range.default;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= range.min && value <= range.max) return value;
  return bad(`--${name} is ${quote(text)}, but must be a whole number from ${range.min} to ${range.max}`);
}

function choice<C extends string>(
  name: FlagName,
  text: string | undefined,
  choices: readonly C[],
): C | undefined {
  if (text === undefined) return undefined;
  return (
    choices.find((candidate) => candidate === text) ??
    bad(`--${name} is ${quote(text)}, but must be one of ${choices.join(', ')}`)
  );
}

function zone(text: string | undefined): TimeZone {
  const timeZone = TimeZone.of(text ?? 'UTC');
  return timeZone ?? bad(`--time-zone is ${quote(text)}, but must be a name like Europe/Zurich, or +01:00`);
}

function delimiter(text: string | undefined): string | null {
  if (text === undefined) return null;
  const character = text === '\\t' ? '\t' : text;
  if (/^[\t -!#-~]$/.test(character)) return character;
  return bad(`--delimiter is ${quote(text)}, but must be one ASCII character other than a quotation mark`);
}

function postUrl(text: string, ack: string | undefined): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return bad(`--url is ${quote(text)}, but must be an http or https address`);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    bad(`--url is ${quote(text)}, but must be an http or https address`);
  }
  if (url.search !== '' || url.hash !== '') bad('--url must not have a query or a fragment');
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/events/`;
  if (ack !== undefined) url.searchParams.set('ack', ack);
  url.searchParams.set('ids', '0');
  return url;
}

function readHeaders(texts: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const text of texts) {
    const parts = /^([!#$%&'*+\-.^_`|~\dA-Za-z]+):[ \t]*([\t -~]*)$/.exec(text);
    if (parts === null) bad(`--header is ${quote(text)}, but must be NAME:VALUE`);
    const [, name = '', value = ''] = parts;
    headers[name.toLowerCase()] = value;
  }
  return headers;
}

function readConstants(
  texts: readonly string[],
  timeFormat: TimeFormat,
  timeZone: TimeZone,
): Map<string, string> {
  const constants = new Map<string, string>();
  for (const text of texts) {
    const equals = text.indexOf('=');
    if (equals < 1) bad(`--set is ${quote(text)}, but must be NAME=TEXT`);
    const name = text.slice(0, equals);
    let value = text.slice(equals + 1);
    if (constants.has(name)) bad(`--set ${name}=... is given twice`);
    if (name === 'id') bad('--set id=... would make all rows one event; see --id and --id-from-content');
    if (name === 'time') {
      const time = parseTime(value, timeFormat, timeZone);
      if (typeof time === 'string') bad(`--set time is ${quote(value)}: ${time}`);
      value = new Date(time).toISOString();
    }
    constants.set(name, JSON.stringify(value));
  }
  return constants;
}
