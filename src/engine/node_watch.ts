// One ClickHouse node as the main thread sees it while somebody looks: whether it answers, and how it stands. Has a
// store handle of its own, so that a question to a node that hangs holds up nobody else's.

import { ratePerSecond } from '../live/builder.ts';
import type { ClusterNode } from '../live/cluster.ts';
import { type NodeState, readNodeState, unknownNodeState } from '../store/node_state.ts';
import { type Store, StoreError } from '../store/store.ts';
import { OnDemand } from './on_demand.ts';

/** Between two questions, and for each, ms. */
const askEveryMs = 2_000;
const askTimeoutMs = 3_000;
/** A node that answered within this is not called down for one question that took too long, ms. */
const silenceMsMax = 5_000;
/** Of an error's text. Characters. */
const errorMax = 300;

interface Answer {
  readonly state: NodeState;
  readonly rowsPerS: number | null;
  /** Null while it is up. */
  readonly error: string | null;
  readonly atMs: number;
}

export class NodeWatch {
  readonly #store: Store;
  readonly #place: { readonly shard: number; readonly replica: number };
  readonly #answer: OnDemand<Answer>;
  #answeredMs = Number.NEGATIVE_INFINITY;

  /** `store` stays the caller's. */
  constructor(store: Store, place: { readonly shard: number; readonly replica: number }) {
    this.#store = store;
    this.#place = place;
    this.#answer = new OnDemand(() => this.#ask(), askEveryMs);
  }

  /** See OnDemand. */
  refresh(): Promise<void> {
    return this.#answer.refresh();
  }

  /** See OnDemand. */
  settled(): Promise<void> {
    return this.#answer.settled();
  }

  get ageMs(): number | null {
    return this.#answer.ageMs;
  }

  /** Null before its first answer, or failure. */
  get node(): ClusterNode | null {
    const answer = this.#answer.known?.value;
    if (answer === undefined) return null;
    const { state, rowsPerS, error } = answer;
    return {
      name: this.#store.name,
      ...this.#place,
      is_up: error === null,
      error,
      rows: state.rows,
      rows_per_s: rowsPerS,
      parts: state.parts,
      parts_max: state.partsMax,
      disk_free_bytes: state.diskFreeBytes,
      disk_total_bytes: state.diskTotalBytes,
    };
  }

  async #ask(): Promise<Answer> {
    const before = this.#answer.known?.value ?? null;
    const silence = AbortSignal.timeout(askTimeoutMs);
    try {
      const state = await readNodeState(this.#store, { signal: silence });
      return this.#answered(state, before);
    } catch (error) {
      // A node that refuses is there, even if this user may not read its system tables.
      if (error instanceof StoreError && error.code !== 0) return this.#answered(unknownNodeState, before);
      const atMs = performance.now();
      const isSlow = silence.aborted && atMs - this.#answeredMs < silenceMsMax;
      if (isSlow && before !== null) return before;
      const text = error instanceof Error ? error.message : String(error);
      const why = silence.aborted ? `no answer within ${askTimeoutMs} ms` : text.slice(0, errorMax);
      return { state: before?.state ?? unknownNodeState, rowsPerS: null, error: why, atMs };
    }
  }

  #answered(state: NodeState, before: Answer | null): Answer {
    const atMs = performance.now();
    this.#answeredMs = atMs;
    const earlier = before?.error === null ? before.state.rows : null;
    const difference = state.rows === null || earlier === null ? null : state.rows - earlier;
    return { state, rowsPerS: ratePerSecond(difference, atMs - (before?.atMs ?? atMs)), error: null, atMs };
  }
}
