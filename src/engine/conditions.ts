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

  /** Ends every condition of a group: of whoever cannot take it back any more. */
  end(group: string): void {
    for (const key of [...this.#texts.keys()]) if (isOf(group, key)) this.set(key, null);
  }

  /**
   * The words of the conditions of a group: with this key, or with one that begins with it and a dash. Each words once:
   * several threads may meet the same trouble.
   */
  of(group: string): string[] {
    return this.#distinct((key) => isOf(group, key));
  }

  /** The words of every condition that is in none of these groups, each words once. */
  list(...except: readonly string[]): string[] {
    return this.#distinct((key) => !except.some((group) => isOf(group, key)));
  }

  #distinct(isWanted: (key: string) => boolean): string[] {
    const texts = [...this.#texts].filter(([key]) => isWanted(key)).map(([, text]) => text);
    return [...new Set(texts)];
  }
}

function isOf(group: string, key: string): boolean {
  return key === group || key.startsWith(`${group}-`);
}
