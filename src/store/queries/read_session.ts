// The statements of one read request share one time limit and the same bounds. Runs on reader threads.

import { EssError } from '../../errors.ts';
import type { Store } from '../store.ts';
import type { Bindings } from './bindings.ts';

/**
 * Memory of one statement. Two readers at once (the default on small machines) stay within half of 8 GiB; statistics
 * of 5 M rows need less than a fifth of it, unless they are grouped by something that nearly every event has its own
 * value of.
 */
const statementBytesMax = 2 * 1024 ** 3;

const settings = {
  max_memory_usage: statementBytesMax,
  // Otherwise the last digit of a parsed number may differ from what JSON.parse makes of it.
  precise_float_parsing: 1,
  // Averages of nothing come as null instead of "nan".
  output_format_json_quote_denormals: 0,
} as const;

export class ReadSession {
  readonly #store: Store;
  readonly #timeoutMs: number;
  readonly #startMs = performance.now();

  /** `timeoutMs`: for all statements together, at least 1. */
  constructor(store: Store, timeoutMs: number) {
    this.#store = store;
    this.#timeoutMs = timeoutMs;
  }

  /** Rows of a SELECT without FORMAT clause; 64-bit integers come as decimal strings. */
  async rows<Row>(sql: string, bindings: Bindings): Promise<Row[]> {
    return this.#store.rows<Row>(sql, bindings.params, { timeoutMs: this.#leftMs(), settings });
  }

  /** The answer of a SELECT that ends in its FORMAT clause. */
  async bytes(sql: string, bindings: Bindings): Promise<Buffer> {
    return this.#store.bytes(sql, bindings.params, { timeoutMs: this.#leftMs(), settings });
  }

  #leftMs(): number {
    const leftMs = Math.ceil(this.#timeoutMs - (performance.now() - this.#startMs));
    if (leftMs > 0) return leftMs;
    throw new EssError('query_timeout', `the read took longer than ${this.#timeoutMs} ms`);
  }
}
