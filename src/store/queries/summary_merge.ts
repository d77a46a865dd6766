// Puts the numbers of several shards together. What adds up is added up here; distinct counts and quantiles do not, so
// their states are sent to one node, which merges them as it merges those of its own threads: exact ones stay exact.
// Runs on reader threads.

import { EssError } from '../../errors.ts';
import { Bindings } from './bindings.ts';
import type { FanOut } from './fan_out.ts';
import { RowBinaryCursor } from './row_binary.ts';
import type { ShardSummary } from './shard_groups.ts';
import type { StatisticsRequest } from './statistics_request.ts';
import { mergeStatement } from './statistics_statement.ts';
import type { CellRow } from './summary.ts';

/** States sent with one statement, unless a single slot has more. Bytes. */
const statementStatesMax = 16 * 1024 * 1024;

/** What only a node can merge. */
interface Merged {
  readonly subjects: number;
  readonly lagQuantiles: readonly number[];
  readonly valueQuantiles: readonly number[];
}

/** A number in the place of merged ones, until `run` has filled it. */
interface Slot {
  readonly parts: readonly ShardSummary[];
  merged: Merged | null;
}

export class SummaryMerge {
  readonly #request: StatisticsRequest;
  readonly #slots: Slot[] = [];

  constructor(request: StatisticsRequest) {
    this.#request = request;
  }

  /** Takes the numbers of the shards that have any, of the same cell or group; gives what to call after `run`. */
  add(parts: readonly ShardSummary[]): () => CellRow {
    const [first] = parts;
    const slot: Slot = {
      parts,
      merged: parts.length === 1 && first !== undefined ? ownNumbers(first) : null,
    };
    // What one shard has alone is complete as it is.
    if (parts.length > 1) this.#slots.push(slot);
    return () => cellOf(slot);
  }

  /** Merges everything that was added. Rejects as `FanOut.any`. */
  async run(fanOut: FanOut): Promise<void> {
    let slots: Slot[] = [];
    let bytes = 0;
    for (const slot of this.#slots) {
      const slotBytes = slot.parts.reduce((sum, part) => sum + stateBytes(part), 0);
      if (slots.length > 0 && bytes + slotBytes > statementStatesMax) {
        await this.#merge(fanOut, slots);
        slots = [];
        bytes = 0;
      }
      slots.push(slot);
      bytes += slotBytes;
    }
    if (slots.length > 0) await this.#merge(fanOut, slots);
  }

  async #merge(fanOut: FanOut, slots: readonly Slot[]): Promise<void> {
    const rows = slots.flatMap(({ parts }, slot) => parts.map((part) => [slot, ...statesOf(part)].join('.')));
    const statement = mergeStatement(this.#request, rows.join(','));
    const bytes = await fanOut.any((session) => session.bytes(statement, new Bindings()));
    const cursor = new RowBinaryCursor(bytes);
    while (!cursor.isAtEnd) {
      const slot = slots[cursor.uint32()];
      const merged: Merged = {
        subjects: Number(cursor.uint64()),
        lagQuantiles: cursor.array(() => cursor.float64()),
        valueQuantiles: this.#request.value === null ? [] : cursor.array(() => cursor.float64()),
      };
      if (slot !== undefined) slot.merged = merged;
    }
  }
}

function stateBytes({ subjectsState, lagState, value }: ShardSummary): number {
  return subjectsState.length + lagState.length + (value?.state.length ?? 0);
}

function statesOf({ subjectsState, lagState, value }: ShardSummary): string[] {
  const states = [subjectsState, lagState];
  if (value !== null) states.push(value.state);
  return states.map((state) => state.toString('base64'));
}

function ownNumbers({ subjects, lagQuantiles, value }: ShardSummary): Merged {
  return { subjects, lagQuantiles, valueQuantiles: value?.quantiles ?? [] };
}

function cellOf({ parts, merged }: Slot): CellRow {
  if (merged === null) throw new EssError('internal', 'a node left out numbers that it was to merge');
  let count = 0;
  let lagSum = 0n;
  let valueCount = 0;
  let valueMin = Number.POSITIVE_INFINITY;
  let valueMax = Number.NEGATIVE_INFINITY;
  const valueSum = new CompensatedSum();
  for (const part of parts) {
    count += part.count;
    lagSum += part.lagSum;
    const { value } = part;
    if (value === null || value.count === 0) continue;
    valueCount += value.count;
    valueSum.add(value.sum);
    valueMin = Math.min(valueMin, value.min);
    valueMax = Math.max(valueMax, value.max);
  }
  const quantiles = merged.valueQuantiles.map(finite);
  return [
    parts[0]?.tMs ?? 0,
    count,
    merged.subjects,
    String(lagSum),
    merged.lagQuantiles.map(finite),
    valueCount,
    finite(valueSum.value),
    finite(valueMin),
    finite(valueMax),
    quantiles,
  ];
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** A sum of doubles that loses nothing on its way, as sumKahan in SQL. */
class CompensatedSum {
  #sum = 0;
  #lost = 0;

  add(value: number): void {
    const sum = this.#sum + value;
    this.#lost += Math.abs(this.#sum) >= Math.abs(value) ? this.#sum - sum + value : value - sum + this.#sum;
    this.#sum = sum;
  }

  get value(): number {
    return this.#sum + this.#lost;
  }
}
