// Reads the times that people write, for `ess send`. A closed table of forms; anything that is out of range or could
// mean two moments is an error, because an event with a wrong time is worse than one that is not sent.

import { timeMsMax, timeMsMin } from '../../event/time.ts';

/** How times are written; `auto` tries every form but day before month, which `mdy` contradicts. */
export const timeFormats = ['auto', 'iso', 'mdy', 'dmy', 'month_name', 'epoch_s', 'epoch_ms'] as const;
export type TimeFormat = (typeof timeFormats)[number];

/** A two-digit year from here on is 19xx, below it 20xx: the rule of POSIX's strptime. */
const pivotYear = 69;

const clock =
  '(?:[Tt ] *(?<hour>\\d{1,2}):(?<minute>\\d\\d)(?::(?<second>\\d\\d)(?:[.,](?<fraction>\\d+))?)?(?: ?(?<half>[AaPp][Mm]))?)?';
const zone = '(?: ?(?<zone>[Zz]|UTC|GMT|[+-]\\d\\d:?\\d\\d))?';
const form = (date: string): RegExp => new RegExp(`^${date}${clock}${zone}$`);

const isoForm = form('(?<year>\\d{4})(?<separator>[-/])(?<month>\\d{1,2})\\k<separator>(?<day>\\d{1,2})');
const forms: Readonly<Record<'iso' | 'mdy' | 'dmy' | 'month_name', readonly RegExp[]>> = {
  iso: [isoForm],
  mdy: [form('(?<month>\\d{1,2})(?<separator>[-/])(?<day>\\d{1,2})\\k<separator>(?<year>\\d{4}|\\d\\d)')],
  dmy: [form('(?<day>\\d{1,2})(?<separator>[-/.])(?<month>\\d{1,2})\\k<separator>(?<year>\\d{4}|\\d\\d)')],
  month_name: [
    form('(?<name>[A-Za-z]{3,9})\\.? (?<day>\\d{1,2}),? (?<year>\\d{4})'),
    form('(?<day>\\d{1,2})[ -](?<name>[A-Za-z]{3,9})\\.?,?[ -](?<year>\\d{4})'),
  ],
};
const autoForms: readonly RegExp[] = [...forms.iso, ...forms.mdy, ...forms.month_name];

const monthNames = [
  'january',
  'february',
  'march',
  'april',
  'may',
  'june',
  'july',
  'august',
  'september',
  'october',
  'november',
  'december',
] as const;

const outOfRange = 'the time is not within 1900 to 2299';

/** Epoch milliseconds of a text, or why it has none. Fractions below a millisecond are cut off. */
export function parseTime(text: string, format: TimeFormat, timeZone: TimeZone): number | string {
  const trimmed = text.trim();
  if (trimmed === '') return 'the time is empty';
  const ms = /^[-+]?\d+(?:\.\d*)?$/.test(trimmed)
    ? parseEpoch(trimmed, format)
    : parseForm(trimmed, format, timeZone);
  if (typeof ms === 'string') return ms;
  return ms >= timeMsMin && ms <= timeMsMax ? ms : outOfRange;
}

function parseEpoch(text: string, format: TimeFormat): number | string {
  const number = Number(text);
  // Through the decimal text rather than by multiplying, which would turn 1.001 s into 1000.999... ms.
  if (format === 'epoch_s') return Math.floor(Number(`${text.replace(/\.$/, '')}e3`));
  if (format === 'epoch_ms') return Math.floor(number);
  if (format !== 'auto') return `a number is not a time of the form ${format}`;
  const digits = text.replace(/\..*$/, '').length;
  // A small number is more likely a year, an hour or a count than a moment in 1970.
  if (/^[1-9]/.test(text)) {
    if (digits === 9 || digits === 10) return parseEpoch(text, 'epoch_s');
    if (digits === 12 || digits === 13) return parseEpoch(text, 'epoch_ms');
  }
  return 'a number with neither 9 or 10 digits (seconds) nor 12 or 13 (milliseconds); --time-format epoch_s or epoch_ms says which';
}

function parseForm(text: string, format: TimeFormat, timeZone: TimeZone): number | string {
  if (format === 'epoch_s' || format === 'epoch_ms') return 'the time is not a number';
  for (const pattern of format === 'auto' ? autoForms : forms[format]) {
    const groups = pattern.exec(text)?.groups;
    if (groups !== undefined) return fromParts(groups, timeZone);
  }
  return format === 'auto'
    ? 'the time has none of the known forms; see --time-format'
    : `the time does not have the form ${format}`;
}

function fromParts(parts: Readonly<Record<string, string | undefined>>, timeZone: TimeZone): number | string {
  const { year = '', name, second = '0', fraction = '', half } = parts;
  const month = name === undefined ? Number(parts['month']) : monthOf(name);
  if (month < 1 || month > 12)
    return `there is no month ${name ?? month}; is the day first? (--time-format dmy)`;
  const fullYear = year.length === 2 ? Number(year) + (Number(year) < pivotYear ? 2000 : 1900) : Number(year);
  // Checked here already, because Date.UTC takes the years 0 to 99 for 1900 to 1999.
  if (fullYear < 1900) return outOfRange;
  const day = Number(parts['day']);
  // Day 0 of the next month is this month's last.
  if (day < 1 || day > new Date(Date.UTC(fullYear, month, 0)).getUTCDate())
    return `that month has no day ${day}`;
  let hour = Number(parts['hour'] ?? '0');
  if (half !== undefined) {
    if (hour < 1 || hour > 12) return `there is no hour ${hour} ${half}`;
    hour = (hour % 12) + (half.toLowerCase() === 'pm' ? 12 : 0);
  }
  const minute = Number(parts['minute'] ?? '0');
  if (hour > 23 || minute > 59 || Number(second) > 59) return 'the time of day is out of range';
  const ms = Number(fraction.slice(0, 3).padEnd(3, '0'));
  const local = Date.UTC(fullYear, month - 1, day, hour, minute, Number(second), ms);
  if (parts['zone'] === undefined) return timeZone.utcMs(local);
  const offset = fixedOffsetMs(parts['zone']);
  return offset === null ? `there is no offset ${parts['zone']}` : local - offset;
}

/** 1 to 12, or 0. A name or its first three letters, and the customary Sept. */
function monthOf(name: string): number {
  const lower = name.toLowerCase();
  return (
    monthNames.findIndex(
      (month) => lower === month || lower === month.slice(0, 3) || `${lower}ember` === month,
    ) + 1
  );
}

function fixedOffsetMs(text: string): number | null {
  if (/^(?:z|utc|gmt)$/i.test(text)) return 0;
  const [, sign, hours = '', minutes = ''] = /^([+-])(\d\d):?(\d\d)$/.exec(text) ?? [];
  if (sign === undefined || Number(hours) > 23 || Number(minutes) > 59) return null;
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * 60_000;
}

/** The zone of times that do not name one. */
export class TimeZone {
  readonly #fixedOffsetMs: number;
  readonly #clock: Intl.DateTimeFormat | null;

  private constructor(offsetMs: number, localClock: Intl.DateTimeFormat | null) {
    this.#fixedOffsetMs = offsetMs;
    this.#clock = localClock;
  }

  /** A zone by its IANA name, or a fixed offset such as +01:00; null if there is no such zone. */
  static of(name: string): TimeZone | null {
    const offset = fixedOffsetMs(name);
    if (offset !== null) return new TimeZone(offset, null);
    try {
      return new TimeZone(
        0,
        new Intl.DateTimeFormat('en-US', {
          timeZone: name,
          hourCycle: 'h23',
          year: 'numeric',
          month: 'numeric',
          day: 'numeric',
          hour: 'numeric',
          minute: 'numeric',
          second: 'numeric',
        }),
      );
    } catch {
      return null;
    }
  }

  /**
   * The moment of a local time, given as if it were UTC. In the hour that a clock change skips there is none, in the
   * one that it repeats there are two: both are errors.
   */
  utcMs(localMs: number): number | string {
    if (this.#clock === null) return localMs - this.#fixedOffsetMs;
    // Clock changes are months apart, so the offsets a day before and a day after are all that come into question.
    const candidates = new Set([-86_400_000, 86_400_000].map((ms) => localMs - this.#offsetMs(localMs + ms)));
    const moments = [...candidates].filter((utcMs) => utcMs + this.#offsetMs(utcMs) === localMs);
    const [moment] = moments;
    if (moment === undefined) return 'the clocks skipped this time in the time zone';
    if (moments.length > 1)
      return 'the clocks showed this time twice in the time zone; give it with an offset';
    return moment;
  }

  #offsetMs(utcMs: number): number {
    const parts = this.#clock?.format(utcMs).match(/\d+/g) ?? [];
    const [month = 0, day = 0, year = 0, hour = 0, minute = 0, second = 0] = parts.map(Number);
    const local = Date.UTC(year, month - 1, day, hour, minute, second);
    return local - (utcMs - (((utcMs % 1000) + 1000) % 1000));
  }
}
