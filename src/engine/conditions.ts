// What is wrong at the moment, by key, with the words for it: what /readyz and /stats name, the page turns red for, and
// the log tells once. Main thread only.

import type { Logger } from 'pino';
import type { Trouble } from '../live/troubles.ts';

export class Conditions {
  readonly #conditions = new Map<string, Trouble>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Sets or, with null, ends a condition. */
  set(key: string, trouble: Trouble | null): void {
    const before = this.#conditions.get(key);
    if (trouble?.text === before?.text && trouble?.kind === before?.kind) return;
    if (trouble === null) {
      this.#conditions.delete(key);
      this.#log.info({ key, was: before?.text }, 'recovered');
    } else {
      this.#conditions.set(key, trouble);
      if (trouble.text !== before?.text) this.#log.warn({ key, text: trouble.text }, 'degraded');
    }
  }

  /** Ends every condition of a group: of whoever cannot take it back any more. */
  end(group: string): void {
    for (const key of [...this.#conditions.keys()]) if (isOf(group, key)) this.set(key, null);
  }

  /**
   * The conditions of a group: with this key, or with one that begins with it and a dash. Each text once: several
   * threads may meet the same trouble.
   */
  of(group: string): Trouble[] {
    return this.#distinct((key) => isOf(group, key));
  }

  /** Every condition that is in none of these groups, each text once. */
  list(...except: readonly string[]): Trouble[] {
    return this.#distinct((key) => !except.some((group) => isOf(group, key)));
  }

  #distinct(isWanted: (key: string) => boolean): Trouble[] {
    const wanted = [...this.#conditions].filter(([key]) => isWanted(key));
    return [...new Map(wanted.map(([, trouble]) => [trouble.text, trouble])).values()];
  }
}

function isOf(group: string, key: string): boolean {
  return key === group || key.startsWith(`${group}-`);
}
