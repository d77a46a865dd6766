// What the explore view is asked, and how that stands in the address, so that it can be kept and shared. Runs in the
// browser. What an address has that is not understood is left out.

export const ranges = ['15m', '1h', '24h', 'all', 'custom'] as const;
export const clocks = ['time', 'ingest'] as const;
export const buckets = ['auto', '1s', '1m', '5m', '1h', '1d'] as const;
export const measures = [
  'count',
  'unique_subjects',
  'lag_p95',
  'value_sum',
  'value_avg',
  'value_p95',
] as const;

export type Range = (typeof ranges)[number];
export type Measure = (typeof measures)[number];

export interface StatisticsQuestion {
  readonly range: Range;
  /** Of a custom range, RFC 3339 in UTC; empty is open. */
  readonly from: string;
  readonly to: string;
  readonly clock: (typeof clocks)[number];
  readonly type: string;
  readonly groupBy: string;
  readonly value: string;
  readonly bucket: (typeof buckets)[number];
  /** What is drawn. */
  readonly measure: Measure;
}

export interface LookupQuestion {
  /** Empty: nothing is looked up. */
  readonly id: string;
  /** Null: whichever it is; there is none besides the empty one. */
  readonly source: string | null;
}

export interface Question {
  readonly statistics: StatisticsQuestion;
  readonly lookup: LookupQuestion;
}

const rangeMs: Readonly<Record<Exclude<Range, 'all' | 'custom'>, number>> = {
  '15m': 15 * 60_000,
  '1h': 3_600_000,
  '24h': 86_400_000,
};

function oneOf<T extends string>(values: readonly T[], text: string | null, otherwise: T): T {
  return values.find((value) => value === text) ?? otherwise;
}

/** Reads `#explore?range=1h&...`. */
export function readHash(hash: string): Question {
  const at = hash.indexOf('?');
  const given = new URLSearchParams(at < 0 ? '' : hash.slice(at + 1));
  const text = (name: string): string => given.get(name) ?? '';
  return {
    statistics: {
      range: oneOf(ranges, given.get('range'), '1h'),
      from: text('from'),
      to: text('to'),
      clock: oneOf(clocks, given.get('clock'), 'time'),
      type: text('type'),
      groupBy: text('group_by'),
      value: text('value'),
      bucket: oneOf(buckets, given.get('bucket'), 'auto'),
      measure: oneOf(measures, given.get('show'), 'count'),
    },
    lookup: { id: text('id'), source: given.get('source') },
  };
}

/** The address of a question; what is as by default is left out. */
export function writeHash({ statistics, lookup }: Question): string {
  const { range, from, to, clock, type, groupBy, value, bucket, measure } = statistics;
  const parameters = new URLSearchParams();
  parameters.set('range', range);
  if (range === 'custom' && from !== '') parameters.set('from', from);
  if (range === 'custom' && to !== '') parameters.set('to', to);
  if (clock !== 'time') parameters.set('clock', clock);
  if (type !== '') parameters.set('type', type);
  if (groupBy !== '') parameters.set('group_by', groupBy);
  if (value !== '') parameters.set('value', value);
  if (bucket !== 'auto') parameters.set('bucket', bucket);
  if (measure !== 'count') parameters.set('show', measure);
  if (lookup.id !== '') parameters.set('id', lookup.id);
  if (lookup.id !== '' && lookup.source !== null) parameters.set('source', lookup.source);
  return `#explore?${parameters}`;
}

/** The query string of GET /events/statistics. `nowMs`: the server's clock, at which ranges that are relative end. */
export function statisticsQuery(question: StatisticsQuestion, nowMs: number): string {
  const { range, from, to, clock, type, groupBy, value, bucket } = question;
  const parameters = new URLSearchParams();
  if (range === 'custom') {
    if (from !== '') parameters.set('from', from);
    if (to !== '') parameters.set('to', to);
  } else if (range !== 'all') {
    parameters.set('from', String(Math.floor(nowMs) - rangeMs[range]));
    parameters.set('to', String(Math.floor(nowMs)));
  }
  parameters.set('clock', clock);
  parameters.set('bucket', bucket);
  if (type !== '') parameters.set('where', `type:${type}`);
  if (groupBy !== '') parameters.set('group_by', groupBy);
  if (value !== '') parameters.set('value', value);
  return parameters.toString();
}
