// An event's `time`: RFC 3339 text or epoch milliseconds, within 1900-2299 (what DateTime64(3) can hold).

/** First valid time, epoch milliseconds: 1900-01-01T00:00:00.000Z. */
export const timeMsMin = Date.UTC(1900, 0, 1);
/** Last valid time, epoch milliseconds: 2299-12-31T23:59:59.999Z. */
export const timeMsMax = Date.UTC(2300, 0, 1) - 1;

const rfc3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;

/** Epoch milliseconds of an RFC 3339 text (fractions below a millisecond are cut off), or NaN if it is not one. */
export function parseRfc3339(text: string): number {
  const parts = rfc3339.exec(text);
  if (parts === null) return Number.NaN;
  const [
    ,
    year,
    month,
    day,
    hour,
    minute,
    second,
    fraction = '',
    sign,
    offsetHour = '0',
    offsetMinute = '0',
  ] = parts;
  const ms = Number(fraction.slice(0, 3).padEnd(3, '0'));
  const local = Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(day),
    Number(hour),
    Number(minute),
    Number(second),
    ms,
  );
  const back = new Date(local);
  // Date.UTC lets February 30 or 25:00 run over into the next unit: such a text is not a time.
  const isExact =
    back.getUTCFullYear() === Number(year) &&
    back.getUTCMonth() === Number(month) - 1 &&
    back.getUTCDate() === Number(day) &&
    back.getUTCHours() === Number(hour) &&
    back.getUTCMinutes() === Number(minute) &&
    back.getUTCSeconds() === Number(second);
  if (!isExact || Number(offsetHour) > 23 || Number(offsetMinute) > 59) return Number.NaN;
  const offsetMs = (Number(offsetHour) * 60 + Number(offsetMinute)) * 60_000;
  return sign === '-' ? local + offsetMs : local - offsetMs;
}

/** Epoch milliseconds of an event's `time` member, or NaN if it is not a time within 1900-2299. */
export function eventTimeMs(value: unknown): number {
  const ms =
    typeof value === 'number'
      ? Math.floor(value)
      : typeof value === 'string'
        ? parseRfc3339(value)
        : Number.NaN;
  return ms >= timeMsMin && ms <= timeMsMax ? ms : Number.NaN;
}
