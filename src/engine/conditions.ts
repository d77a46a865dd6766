// What is wrong at the moment, by key, with the words for it: what /readyz and /stats name, the page turns red for, and
// the log tells once. Main thread only.

import type { Logger } from 'pino';
import type { Trouble, TroubleKind } from '../live/troubles.ts';

export class Conditions {
  readonly #conditions = new Map<string, Trouble>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Sets a condition of this kind. */
  set(key: string, kind: TroubleKind, text: string): void {
    const before = this.#conditions.get(key);
    if (text === before?.text && kind === before.kind) return;
    this.#conditions.set(key, { kind, text });
    if (text !== before?.text) this.#log.warn({ key, text }, 'degraded');
  }

  /** Ends a condition, if there is one. */
  clear(key: string): void {
    const was = this.#conditions.get(key)?.text;
    if (this.#conditions.delete(key)) this.#log.info({ key, was }, 'recovered');
  }

  /** The first condition with this key, or with one that begins with it and a dash; null if all is well. */
  get(key: string): Trouble | null {
    for (const [each, trouble] of this.#conditions)
      if (each === key || each.startsWith(`${key}-`)) return trouble;
    return null;
  }

  /** Every condition. */
  list(): Trouble[] {
    return [...this.#conditions.values()];
  }
}
