// Values of one statement on their way to {name:Type} placeholders. Everything that a client sends reaches ClickHouse
// through here; no query file puts such text into SQL itself. Runs on reader threads.

import type { QueryParams } from '../store.ts';

export class Bindings {
  readonly #values: Record<string, unknown> = {};
  #count = 0;
  #aliasCount = 0;

  /** The values by placeholder name. */
  get params(): QueryParams {
    return this.#values;
  }

  /** Binds a value and gives its placeholder, which may stand in the statement more than once. */
  bind(type: string, value: unknown): string {
    const name = `p${this.#count}`;
    this.#count += 1;
    this.#values[name] = value;
    return `{${name}:${type}}`;
  }

  /** A name for a part of an expression, used nowhere else in the statement. */
  alias(): string {
    this.#aliasCount += 1;
    return `part${this.#aliasCount}`;
  }
}
