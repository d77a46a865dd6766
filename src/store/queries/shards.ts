// The nodes that a reader thread reads from: shards, and the replicas of each with what this thread has seen of their
// health. Opened once for a thread and used by all its reads; each reader thread has its own.

import { openStore } from '../client.ts';
import type { Store, StoreLayout } from '../store.ts';

/** One node of a shard. */
export interface Replica {
  readonly store: Store;
  /** Reached over a network: it may be silent without an end, whereas the engine in this process cannot. */
  readonly isRemote: boolean;
  /** It was silent when it was last asked, and is not waited for as long again. */
  isSuspect: boolean;
}

/** The replicas of one shard, those that answered last first. */
export class Shard {
  /** From 0, in the order of the configuration. */
  readonly index: number;
  #replicas: readonly Replica[];

  /** `replicas`: at least one, in the order in which they are asked at first. */
  constructor(index: number, replicas: readonly Replica[]) {
    this.index = index;
    this.#replicas = replicas;
  }

  /** In the order in which they are to be asked. */
  get replicas(): readonly Replica[] {
    return this.#replicas;
  }

  /** The engine of this process, which needs neither watching nor choosing; null for nodes. */
  get local(): Store | null {
    const [first] = this.#replicas;
    return this.#replicas.length === 1 && first?.isRemote === false ? first.store : null;
  }

  /** It is asked first from now on. */
  answered(replica: Replica): void {
    replica.isSuspect = false;
    if (this.#replicas[0] === replica) return;
    this.#replicas = [replica, ...this.#replicas.filter((other) => other !== replica)];
  }

  /** It is asked last from now on, until the others fail. */
  failed(replica: Replica, wasSilent: boolean): void {
    if (wasSilent) replica.isSuspect = true;
    this.#replicas = [...this.#replicas.filter((other) => other !== replica), replica];
  }
}

export class Shards {
  readonly all: readonly Shard[];

  constructor(all: readonly Shard[]) {
    this.all = all;
  }

  /** One store that holds everything and answers in its own time. Whoever opened it closes it. */
  static ofOne(store: Store): Shards {
    return new Shards([new Shard(0, [{ store, isRemote: false, isSuspect: false }])]);
  }

  async close(): Promise<void> {
    await Promise.all(this.all.flatMap(({ replicas }) => replicas.map(({ store }) => store.close())));
  }
}

/**
 * Opens every node of a layout; only an embedded one is contacted by that. Reader number `turn` begins with replica
 * `turn` modulo their number, so that the reads of several threads are spread over the replicas. Rejects as `openStore`.
 */
export async function openShards(layout: StoreLayout, turn = 0): Promise<Shards> {
  const shards = layout.shards.map(async (targets, index) => {
    const replicas = await Promise.all(
      targets.map(async (target) => ({
        store: await openStore(target, { blocking: true }),
        isRemote: target.kind !== 'embedded',
        isSuspect: false,
      })),
    );
    const first = turn % replicas.length;
    return new Shard(index, [...replicas.slice(first), ...replicas.slice(0, first)]);
  });
  return new Shards(await Promise.all(shards));
}
