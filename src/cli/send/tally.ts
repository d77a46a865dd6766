// What became of every row, for the progress line and the summary. Each row ends in exactly one of accepted,
// rejected, unconfirmed and unsent.

import type { Place } from './row.ts';

/** Rejected rows that the summary names; of the others only the codes are counted. */
const reasonsMax = 10;

/** Why one row was not accepted. */
export interface Reason extends Place {
  readonly code: string;
  readonly message: string;
}

/** The summary as `ess send --json` prints it. */
export interface Summary {
  /** Rows read, those that could not be sent included. */
  readonly rows: number;
  /** Events that were part of a request at least once. */
  readonly sent: number;
  readonly accepted: number;
  /** By the service, or here because the row cannot be an event. */
  readonly rejected: number;
  /** Sent, but given up before an answer said what became of them. To send them again is safe if their ids are the same. */
  readonly unconfirmed: number;
  /** Read, but given up before they were sent. */
  readonly unsent: number;
  /** Requests that were repeated. */
  readonly retries: number;
  readonly seconds: number;
  /** Accepted events a second. */
  readonly eventsPerSecond: number;
  readonly rejectedByCode: Readonly<Record<string, number>>;
  /** The first reasons in the order in which they were found. */
  readonly errors: readonly Reason[];
  /** Why sending ended before the end of the input, or null. */
  readonly stopped: string | null;
}

export class Tally {
  rows = 0;
  sent = 0;
  accepted = 0;
  rejected = 0;
  unconfirmed = 0;
  unsent = 0;
  retries = 0;
  readonly #startMs: number;
  readonly #byCode = new Map<string, number>();
  readonly #reasons: Reason[] = [];

  constructor(startMs: number) {
    this.#startMs = startMs;
  }

  /** Counts one row as rejected. */
  reject(place: Place, code: string, message: string): void {
    this.countRejected(1, code);
    if (this.#reasons.length < reasonsMax) this.#reasons.push({ ...place, code, message });
  }

  /** Counts rejected rows that the service did not name. */
  countRejected(count: number, code: string): void {
    this.rejected += count;
    this.#byCode.set(code, (this.#byCode.get(code) ?? 0) + count);
  }

  summary(nowMs: number, stopped: string | null): Summary {
    const seconds = (nowMs - this.#startMs) / 1000;
    return {
      rows: this.rows,
      sent: this.sent,
      accepted: this.accepted,
      rejected: this.rejected,
      unconfirmed: this.unconfirmed,
      unsent: this.unsent,
      retries: this.retries,
      seconds,
      eventsPerSecond: seconds > 0 ? Math.round(this.accepted / seconds) : 0,
      rejectedByCode: Object.fromEntries(this.#byCode),
      errors: this.#reasons,
      stopped,
    };
  }
}

/** The summary for people, ending with a line feed. */
export function summaryText(summary: Summary): string {
  const { rows, sent, accepted, rejected, unconfirmed, unsent, retries, seconds } = summary;
  const lines = [
    `rows read    ${rows}`,
    `sent         ${sent}`,
    `accepted     ${accepted}`,
    `rejected     ${rejected}${codesText(summary.rejectedByCode)}`,
  ];
  if (unconfirmed > 0)
    lines.push(`unconfirmed  ${unconfirmed} (sent, but no answer says what became of them)`);
  if (unsent > 0) lines.push(`not sent     ${unsent}`);
  lines.push(`retries      ${retries}`);
  lines.push(`time         ${seconds.toFixed(1)} s, ${summary.eventsPerSecond} events/s`);
  for (const { file, line, row, code, message } of summary.errors) {
    lines.push(`  ${file}:${line}: row ${row}: ${code}: ${message}`);
  }
  if (rejected > summary.errors.length && summary.errors.length > 0) {
    lines.push(`  and ${rejected - summary.errors.length} more`);
  }
  if (summary.stopped !== null) {
    lines.push(
      `stopped: ${summary.stopped}`,
      'What is accepted stays. To send all of it again adds nothing twice if the rows have ids, or with --id-from-content.',
    );
  }
  return `${lines.join('\n')}\n`;
}

function codesText(byCode: Readonly<Record<string, number>>): string {
  const codes = Object.entries(byCode).map(([code, count]) => `${code} ${count}`);
  return codes.length === 0 ? '' : ` (${codes.join(', ')})`;
}
