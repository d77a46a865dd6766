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

  get(key: string): string | null {
    return this.#texts.get(key) ?? null;
  }

  /** The words of every condition. */
  list(): string[] {
    return [...this.#texts.values()];
  }
}
