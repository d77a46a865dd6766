// Values of {name:Type} placeholders as text, exactly as @clickhouse/client sends them in a URL (its formatQueryParams
// is not exported), and quoting for the statements that carry them into chDB. Runs on any thread that has a store.

import { TupleParam } from '@clickhouse/client';
import { EssError } from '../errors.ts';

const escapes: Readonly<Record<string, string>> = {
  '\t': '\\t',
  '\n': '\\n',
  '\r': '\\r',
  "'": "\\'",
  '\\': '\\\\',
};

function escaped(text: string): string {
  return text.replace(/[\t\n\r'\\]/g, (character) => escapes[character] ?? character);
}

/** The text of one parameter: TSV-escaped at the top level. Throws `internal` for a value that has no text. */
export function formatQueryParam(value: unknown): string {
  if (value === null || value === undefined) return '\\N';
  if (typeof value === 'string') return escaped(value);
  if (typeof value === 'boolean') return value ? '1' : '0';
  return formatPart(value);
}

/** A value as it stands inside an array, tuple or map: as an SQL literal. */
function formatNested(value: unknown): string {
  if (value === null || value === undefined) return 'NULL';
  if (typeof value === 'string') return `'${escaped(value)}'`;
  if (typeof value === 'boolean') return value ? 'TRUE' : 'FALSE';
  return formatPart(value);
}

/** What is written in the same way at the top level and inside. */
function formatPart(value: unknown): string {
  if (typeof value === 'number') return formatNumber(value);
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Date) return formatDate(value);
  if (Array.isArray(value)) return `[${value.map(formatNested).join(',')}]`;
  if (value instanceof TupleParam) return `(${value.values.map(formatNested).join(',')})`;
  if (value instanceof Map) return formatMap(value.entries());
  if (typeof value === 'object' && value !== null) return formatMap(Object.entries(value));
  throw new EssError('internal', `a query parameter cannot be a ${typeof value}`);
}

function formatNumber(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (value === Number.POSITIVE_INFINITY) return '+inf';
  if (value === Number.NEGATIVE_INFINITY) return '-inf';
  return String(value);
}

/** Unix seconds of at least ten digits, with milliseconds only if there are any: free of time zones. */
function formatDate(value: Date): string {
  const seconds = String(Math.floor(value.getTime() / 1000)).padStart(10, '0');
  const milliseconds = value.getUTCMilliseconds();
  return milliseconds === 0 ? seconds : `${seconds}.${String(milliseconds).padStart(3, '0')}`;
}

function formatMap(entries: Iterable<readonly [unknown, unknown]>): string {
  const parts: string[] = [];
  for (const [key, value] of entries) parts.push(`${formatNested(key)}:${formatNested(value)}`);
  return `{${parts.join(',')}}`;
}

/** A string literal. NUL is escaped too: the engine takes statements as C strings, which end at the first NUL. */
export function quoteLiteral(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&').replaceAll('\0', '\\0')}'`;
}

/** An identifier in backticks. */
export function quoteIdentifier(name: string): string {
  return `\`${name.replace(/[\\`]/g, '\\$&')}\``;
}
