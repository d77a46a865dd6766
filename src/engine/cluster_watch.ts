// What lies around this process, looked at only while somebody wants to know: brokers, replicas and the consumer group
// through the log seam, ClickHouse nodes, the disk of the data directory, dead letters. Every question goes its own way
// and has its own deadline; nobody who asks here waits longer than he says. Main thread only.

import { statfs } from 'node:fs/promises';
import { RecordCursor } from '../event/record.ts';
import { type ClusterGroup, type ClusterView, clusterTroubles, type Disk } from '../live/cluster.ts';
import type { LiveDeadLetter, LiveSnapshot } from '../live/snapshot.ts';
import type { Trouble } from '../live/troubles.ts';
import type { DeadLetter, LogAppender, LogDescriber, LogDescription } from '../log/log.ts';
import { type LogTarget, openDescriber } from '../log/open.ts';
import { openStore } from '../store/client.ts';
import type { Store, StoreLayout } from '../store/store.ts';
import { NodeWatch } from './node_watch.ts';
import { OnDemand } from './on_demand.ts';

/** Between two looks at the same thing, ms. */
const lookEveryMs = 2_000;
const diskEveryMs = 5_000;
/** What is younger is shown without waiting for newer news, ms: so is what a node that hangs was known for. */
const recentMs = 8_000;
/** What was found longer ago than this is no trouble of now: nobody has looked since. ms */
const troubleAgeMaxMs = 60_000;
/** Dead letters that are shown. */
const lettersMax = 10;
/** Of a reason that is shown. Characters. */
const reasonMax = 500;

export interface ClusterWatchParts {
  readonly logTarget: LogTarget;
  readonly layout: StoreLayout;
  readonly dataDir: string;
  /** The main thread's store where it is embedded; null for nodes, and where another process has it. */
  readonly embeddedStore: Store | null;
  /** False where the embedded store belongs to another process. */
  readonly hasStore: boolean;
  readonly hasSinks: boolean;
  /** The log handle of the session that there is now. */
  readonly log: () => LogAppender;
}

type DeadLetters = LiveSnapshot['dead_letters'];
const noLetters: DeadLetters = { total: null, latest: [] };

export class ClusterWatch {
  readonly #parts: ClusterWatchParts;
  readonly #describer: LogDescriber;
  readonly #nodes: readonly NodeWatch[];
  /** Opened here. */
  readonly #stores: readonly Store[];
  readonly #log: OnDemand<LogDescription>;
  readonly #disk: OnDemand<Disk>;
  readonly #letters: OnDemand<DeadLetters>;
  #unstableSinceMs: number | null = null;
  #lettersVersion = '';
  #lookedMs = Number.NEGATIVE_INFINITY;
  #isClosed = false;

  /** Contacts nobody yet. */
  static async open(parts: ClusterWatchParts): Promise<ClusterWatch> {
    const stores: Store[] = [];
    const nodes: NodeWatch[] = [];
    if (parts.embeddedStore !== null)
      nodes.push(new NodeWatch(parts.embeddedStore, { shard: 0, replica: 0 }));
    else if (parts.hasStore) {
      for (const [shard, replicas] of parts.layout.shards.entries()) {
        for (const [replica, target] of replicas.entries()) {
          const store = await openStore(target);
          stores.push(store);
          nodes.push(new NodeWatch(store, { shard, replica }));
        }
      }
    }
    return new ClusterWatch(parts, await openDescriber(parts.logTarget), nodes, stores);
  }

  private constructor(
    parts: ClusterWatchParts,
    describer: LogDescriber,
    nodes: readonly NodeWatch[],
    stores: readonly Store[],
  ) {
    this.#parts = parts;
    this.#describer = describer;
    this.#nodes = nodes;
    this.#stores = stores;
    this.#log = new OnDemand(() => this.#describe(), lookEveryMs);
    this.#disk = new OnDemand(() => diskOf(parts.dataDir), diskEveryMs);
    this.#letters = new OnDemand(() => this.#readLetters(), lookEveryMs);
  }

  /** Has newer news fetched, and gives what is known now. */
  look(): ClusterView {
    void this.#refresh();
    return this.view();
  }

  /** As look; where something is not known, or nobody has looked for a while, waits for it, but at most so long. */
  async lookWithin(ms: number): Promise<ClusterView> {
    if (this.#isRecent) return this.look();
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([this.#refresh(), patience]);
    clearTimeout(timer);
    return this.view();
  }

  view(): ClusterView {
    const { logTarget, embeddedStore } = this.#parts;
    const log = this.#log.known?.value;
    return {
      kind: logTarget.kind,
      brokers: (log?.brokers ?? []).map(({ id, address, isUp, isController }) => ({
        id,
        address,
        is_up: isUp,
        is_controller: isController,
      })),
      min_in_sync_replicas: log?.minInSyncReplicas ?? null,
      partitions: (log?.partitions ?? []).map(({ leader, replicas, inSync }) => ({
        leader,
        replicas,
        in_sync: inSync,
      })),
      group: log === undefined ? null : this.#groupOf(log),
      nodes: this.#nodes.flatMap((watch) => watch.node ?? []),
      log_disk:
        log?.disk == null ? null : { free_bytes: log.disk.freeBytes, total_bytes: log.disk.totalBytes },
      data_dir: this.#disk.known?.value ?? null,
      is_data_dir_used: logTarget.kind === 'embedded' || embeddedStore !== null,
      dead_letters: this.#letters.known?.value ?? noLetters,
    };
  }

  /** Age of the oldest part of what is known, s with one decimal; null for what was not found out yet. */
  ages(): {
    readonly log: number | null;
    readonly nodes: number | null;
    readonly dead_letters: number | null;
  } {
    const seconds = (ms: number | null): number | null => (ms === null ? null : Math.round(ms / 100) / 10);
    const nodes = this.#nodes.map(({ ageMs }) => ageMs).filter((ageMs) => ageMs !== null);
    return {
      log: seconds(this.#log.ageMs),
      nodes: seconds(nodes.length === 0 ? null : Math.max(...nodes)),
      dead_letters: seconds(this.#letters.ageMs),
    };
  }

  /** What is wrong, as far as anybody looked lately. Asks nobody. */
  troubles(): readonly Trouble[] {
    if (performance.now() - this.#lookedMs > troubleAgeMaxMs) return [];
    return clusterTroubles(this.view(), this.#parts.hasSinks);
  }

  /** What is known stays to be seen; nothing more is asked. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#describer.close();
    for (const store of this.#stores) await store.close();
    // The store in this process is closed by its owner, who must not find a question of ours in the engine.
    if (this.#parts.embeddedStore !== null) await Promise.all(this.#nodes.map((node) => node.settled()));
  }

  get #isRecent(): boolean {
    const ages = [this.#log, this.#disk, this.#letters, ...this.#nodes].map(({ ageMs }) => ageMs);
    return ages.every((ageMs) => ageMs !== null && ageMs < recentMs);
  }

  async #refresh(): Promise<void> {
    if (this.#isClosed) return;
    this.#lookedMs = performance.now();
    await Promise.all([
      this.#log.refresh(),
      this.#disk.refresh(),
      this.#letters.refresh(),
      ...this.#nodes.map((node) => node.refresh()),
    ]);
  }

  async #describe(): Promise<LogDescription> {
    const description = await this.#describer.describe();
    const isStable = description.group === null || description.group.state === 'Stable';
    if (isStable) this.#unstableSinceMs = null;
    else this.#unstableSinceMs ??= performance.now();
    return description;
  }

  #groupOf({ group }: LogDescription): ClusterGroup | null {
    if (group === null) return null;
    const sinceMs = this.#unstableSinceMs;
    return { ...group, unstable_ms: sinceMs === null ? 0 : performance.now() - sinceMs };
  }

  /** The letters themselves are read only when there are more or fewer of them than before. */
  async #readLetters(): Promise<DeadLetters> {
    const log = this.#parts.log();
    const total = await log.deadLetterCount('parked');
    // One may have been dealt with and another one parked.
    const version = `${log.epoch} ${total} ${await log.deadLetterCount('all')}`;
    const before = this.#letters.known?.value;
    if (before !== undefined && this.#lettersVersion === version) return before;
    this.#lettersVersion = version;
    const latest = total === 0 ? [] : await log.latestDeadLetters(lettersMax);
    return { total, latest: latest.map(letterOf) };
  }
}

async function diskOf(path: string): Promise<Disk> {
  const { bavail, blocks, bsize } = await statfs(path);
  return { free_bytes: bavail * bsize, total_bytes: blocks * bsize };
}

function letterOf({ partition, offset, timeMs, code, reason, record }: DeadLetter): LiveDeadLetter {
  const cursor = new RecordCursor();
  cursor.open(record);
  const id = cursor.next() ? cursor.buffer.toString('utf8', cursor.idStart, cursor.typeStart) : null;
  const time = new Date(timeMs).toISOString();
  return { partition, offset, time, code, reason: reason.slice(0, reasonMax), id };
}
