// What is wrong at the moment, by key, with the words for it: what /readyz and /stats name and the log tells once.

import type { Logger } from 'pino';

export class Conditions {
  readonly #texts = new Map<string, string>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Sets or, with null, ends a condition. */
  set(key: string, text: string | null): void {
    const before = this.#texts.get(key) ?? null;
    if (text === before) return;
    if (text === null) {
      this.#texts.delete(key);
      this.#log.info({ key, was: before }, 'recovered');
    } else {
      this.#texts.set(key, text);
      this.#log.warn({ key, text }, 'degraded');
    }
  }

  /** The words of the first condition with this key, or with one that begins with it and a dash; null if all is well. */
  get(key: string): string | null {
    for (const [each, text] of this.#texts) if (each === key || each.startsWith(`${key}-`)) return text;
    return null;
  }

  /** The words of every condition. */
  list(): string[] {
    return [...this.#texts.values()];
  }
}
