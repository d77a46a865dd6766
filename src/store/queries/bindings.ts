// Values of one statement on their way to {name:Type} placeholders. Everything that a client sends reaches ClickHouse
// through here; no query file puts such text into SQL itself. Runs on reader threads.
//
// Parameters travel in the URL of a request to a node, or as fields of a form, and a field may have 128 KiB
// (http_max_field_value_size, which a request cannot raise; https://github.com/ClickHouse/clickhouse-js/issues/409). So
// long lists stand in the statement itself there, quoted. They are written as plain literals: a list that is computed,
// be it from constants, is looked through from its beginning for every row instead of being a set.

import { TupleParam } from '@clickhouse/client';
import { quoteLiteral } from '../query_params.ts';
import type { QueryParams } from '../store.ts';

/** An element of a long list. */
export type ListElement = string | readonly (string | number)[];

export class Bindings {
  readonly #values: Record<string, unknown> = {};
  readonly #isRemote: boolean;
  #count = 0;
  #aliasCount = 0;

  /** `isRemote`: the statement goes to a node. */
  constructor(isRemote = false) {
    this.#isRemote = isRemote;
  }

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

  /**
   * Binds a list that may be long, at least one element, for the right side of IN; tuples are given as arrays. `type` is
   * that of the list.
   */
  bindList(type: string, list: readonly ListElement[]): string {
    if (this.#isRemote) return `[${list.map(literalOf).join(',')}]`;
    return this.bind(
      type,
      list.map((element) => (typeof element === 'string' ? element : new TupleParam([...element]))),
    );
  }

  /** A name for a part of an expression, used nowhere else in the statement. */
  alias(): string {
    this.#aliasCount += 1;
    return `part${this.#aliasCount}`;
  }
}

function literalOf(element: ListElement): string {
  if (typeof element === 'string') return quoteLiteral(element);
  return `(${element.map((part) => (typeof part === 'number' ? String(part) : quoteLiteral(part))).join(',')})`;
}
