// Numbers, times and spans of time as a person reads them. Runs in the browser; null and what is not finite is a dash.

/** Stands for what is not known. */
export const unknown = '–';

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const oneDecimal = new Intl.NumberFormat('en-US', { maximumFractionDigits: 1 });
const threeDigits = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 });
const twoDigits = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 2 });
const exact = new Intl.NumberFormat('en-US', { maximumFractionDigits: 6 });

function isNumber(value: number | null | undefined): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** 12,345 */
export function count(value: number | null | undefined): string {
  return isNumber(value) ? whole.format(value) : unknown;
}

/** "1 event", "12 events". */
export function countOf(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** As many digits as there are, up to six decimals. */
export function figure(value: number | null | undefined): string {
  return isNumber(value) ? exact.format(value) : unknown;
}

/** Per second: 0.0042, 0.44, 12.5, 12,345. */
export function rate(value: number | null | undefined): string {
  if (!isNumber(value)) return unknown;
  if (value < 1) return twoDigits.format(value);
  return value < 100 ? oneDecimal.format(value) : whole.format(value);
}

/** Milliseconds as 0.42 ms, 312 ms, 1.23 s, 2 min 5 s. */
export function millis(value: number | null | undefined): string {
  if (!isNumber(value)) return unknown;
  if (value < 999.5) return `${threeDigits.format(value)} ms`;
  if (value < 119_500) return `${threeDigits.format(value / 1000)} s`;
  return span(value / 1000);
}

/** Seconds as 0 s, 3.2 s, 2 min 5 s, 30 min, 3 h 12 min, 4 d 2 h. */
export function span(seconds: number | null | undefined): string {
  if (!isNumber(seconds)) return unknown;
  if (seconds < 9.95) return `${oneDecimal.format(seconds)} s`;
  const all = Math.round(seconds);
  if (all < 120) return `${all} s`;
  if (all < 7200) return pair(all, 60, 'min', 's');
  const minutes = Math.floor(all / 60);
  if (minutes < 2880) return pair(minutes, 60, 'h', 'min');
  return pair(Math.floor(minutes / 60), 24, 'd', 'h');
}

function pair(value: number, perLarge: number, large: string, small: string): string {
  const rest = value % perLarge;
  return `${Math.floor(value / perLarge)} ${large}${rest === 0 ? '' : ` ${rest} ${small}`}`;
}

/** 0.25 as 25 %. */
export function percent(share: number | null | undefined): string {
  return isNumber(share) ? `${oneDecimal.format(share * 100)} %` : unknown;
}

const byteUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** 12.3 GiB */
export function bytes(value: number | null | undefined): string {
  if (!isNumber(value)) return unknown;
  let left = value;
  let unit = 0;
  while (left >= 1024 && unit < byteUnits.length - 1) {
    left /= 1024;
    unit += 1;
  }
  // Three digits of 1,023 would be 1,020.
  return `${(left < 1000 ? threeDigits : whole).format(left)} ${byteUnits[unit]}`;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** 14:03:27, in the browser's time zone. */
export function clockTime(ms: number): string {
  const date = new Date(ms);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** 2026-01-31 14:03:27.104, in the browser's time zone. */
export function dateTime(ms: number): string {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return unknown;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${clockTime(ms)}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

/** How long ago, in whole seconds and more: "just now", "12 s ago". */
export function ago(ms: number, nowMs: number): string {
  const seconds = Math.floor((nowMs - ms) / 1000);
  return seconds < 1 ? 'just now' : `${span(Math.max(0, seconds))} ago`;
}
