// The shards that have a partition's rows and ledger: the one that it belongs to, and those that it belonged to before
// shards were added. Asked once for each assignment, on sink threads.

import { EssError } from '../errors.ts';
import { checkLayout, formerShards, type LayoutVersion } from '../store/shard_layout.ts';
import { shardOf } from '../store/store.ts';
import type { Shard } from './shard.ts';

/** Where a range's rows and its ledger row go. */
export interface RangeHome {
  readonly shard: Shard;
  /** The version of the layout by which the range belongs there: what its intent says. */
  readonly layout: number;
}

export class Owners {
  /** Where everything new goes. */
  readonly home: RangeHome;
  /** Those before, each once; empty where the partition never moved. */
  readonly former: readonly Shard[];
  readonly #shards: readonly Shard[];
  readonly #history: readonly LayoutVersion[];
  readonly #partition: number;

  private constructor(shards: readonly Shard[], history: readonly LayoutVersion[], partition: number) {
    this.#shards = shards;
    this.#history = history;
    this.#partition = partition;
    this.home = this.homeIn(history.length);
    this.former = formerShards(history, partition).map((shard) => shardAt(shards, shard));
  }

  /**
   * Reads the layouts of the partition's shard and of those before, and of no other: one that is down holds up nobody
   * else. All of them have to agree with `shards`, by number. That former shards do too keeps a sink away that knows
   * only them: it would go on from their ledgers alone. Rejects with StoreError, and as `checkLayout`.
   */
  static async read(shards: readonly Shard[], partition: number): Promise<Owners> {
    const read = (shard: number): Promise<LayoutVersion[]> =>
      checkLayout(shardAt(shards, shard).store, { shard, shards: shards.length });
    const history = await read(shardOf(partition, shards.length));
    const countsOf = (versions: readonly LayoutVersion[]): string =>
      versions.map((each) => each.shards).join();
    for (const former of await Promise.all(formerShards(history, partition).map(read))) {
      if (countsOf(former) === countsOf(history)) continue;
      const text = `the shards of partition ${partition} have different layouts: ${countsOf(history)} and ${countsOf(former)}; see ess init`;
      throw new EssError('bad_option', text);
    }
    return new Owners(shards, history, partition);
  }

  /** All of them, the present one first. */
  get all(): readonly Shard[] {
    return [this.home.shard, ...this.former];
  }

  /** Where a range goes that was begun under this version. Throws EssError `internal` for one that is not recorded. */
  homeIn(layout: number): RangeHome {
    const version = this.#history[layout - 1];
    if (version === undefined) {
      const text = `layout version ${layout} is not recorded, the latest is ${this.#history.length}`;
      throw new EssError('internal', text);
    }
    return { shard: shardAt(this.#shards, shardOf(this.#partition, version.shards)), layout };
  }
}

function shardAt(shards: readonly Shard[], shard: number): Shard {
  const found = shards[shard];
  if (found === undefined) throw new EssError('internal', `there is no shard ${shard}`);
  return found;
}
