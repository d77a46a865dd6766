// A client's memory across kills: every event that was ever sent, and what the service promised about it. At the end
// the promises are held against the log and the store themselves.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { openEmbeddedReader } from '../../src/log/embedded/open.ts';
import type { DeadLetter } from '../../src/log/log.ts';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import type { Store } from '../../src/store/store.ts';
import { auditEarlier, auditLedger } from '../sink/audit.ts';
import type { EssProcess } from '../support/ess_process.ts';

/** What an answer, or the lack of one, says about an event. */
export type Outcome =
  /** 200. */
  | 'promised'
  /** It may be there or not. */
  | 'unknown'
  /** The service said that it took nothing. */
  | 'refused'
  /** It is a dead letter. */
  | 'parked';

/** Bodies with this word are refused by the store where a test has called `refusePoison`. */
export const poison = 'POISON';

export class SentEvent {
  readonly id: string;
  readonly source: string;
  readonly isPoison: boolean;
  /** The same bytes each time it is sent. */
  readonly json: string;
  readonly outcomes = new Set<Outcome>();

  constructor(id: string, source: string, time: string | undefined, isPoison: boolean, pad: number) {
    this.id = id;
    this.source = source;
    this.isPoison = isPoison;
    const text = (isPoison ? poison : 'x').padEnd(pad, 'x');
    this.json = JSON.stringify({ id, ...(source === '' ? {} : { source }), time, text });
  }

  get isPromised(): boolean {
    return this.outcomes.has('promised');
  }

  /** True if nothing of it may be found anywhere. */
  get isRefused(): boolean {
    return [...this.outcomes].every((outcome) => outcome === 'refused');
  }
}

export class Journal {
  readonly #events: SentEvent[] = [];
  readonly #byIdentity = new Map<string, SentEvent>();
  readonly #name: string;
  #retriedFrom = 0;
  /** The store refuses events for no fault of theirs: then any of them may be a dead letter instead of a row. */
  isAnyRefused = false;

  constructor(name: string) {
    this.#name = name;
  }

  /** Those that may be sent again. */
  get retried(): readonly SentEvent[] {
    return this.#retriedFrom === 0 ? this.#events : this.#events.slice(this.#retriedFrom);
  }

  /** From now on nothing that was created before is sent again: a retry may meet another partition by now. */
  endRetries(): void {
    this.#retriedFrom = this.#events.length;
  }

  /** The log took these with it, on purpose, before they were stored: nobody knows what became of them. */
  excuse(events: readonly SentEvent[]): void {
    for (const event of events) {
      event.outcomes.clear();
      event.outcomes.add('unknown');
    }
  }

  get events(): readonly SentEvent[] {
    return this.#events;
  }

  /** A new event; every fifth has a source, every seventh a time of its own. */
  create(isPoison = false): SentEvent {
    const n = this.#events.length;
    const source = n % 5 === 0 ? `source-${n % 3}` : '';
    const time = n % 7 === 0 ? new Date(Date.UTC(2026, 0, 1) + n * 60_000).toISOString() : undefined;
    const event = new SentEvent(`${this.#name}-${n}`, source, time, isPoison, 10 + (n % 50));
    this.#events.push(event);
    this.#byIdentity.set(identityOf(event), event);
    return event;
  }

  /** Holds every promise against the files of a service that does not run. */
  async check(dataDir: string): Promise<void> {
    await pinEmbeddedEngine();
    const log = await openEmbeddedReader({
      path: join(dataDir, 'log'),
      partitions: 1,
      bytesMax: 1024 ** 3,
      retentionMs: 0,
      retentionBytes: 0,
    });
    const store = await openStore({ kind: 'embedded', path: join(dataDir, 'store') });
    try {
      const ends = (await log.states()).map(({ end }) => end);
      await this.hold([store], log.epoch, ends, await log.deadLetters(1_000_000));
    } finally {
      await store.close();
      await log.close();
    }
  }

  /**
   * Holds every promise against one store for each shard, the ends of the log's partitions and the dead letters.
   * `earlier`: epochs of topics of the same name that are gone. `counts`: how many shards there have been, one after the
   * other.
   */
  async hold(
    stores: readonly Store[],
    epoch: string,
    ends: readonly number[],
    letters: readonly DeadLetter[],
    earlier: readonly string[] = [],
    counts: readonly number[] = [stores.length],
  ): Promise<void> {
    const totals = await auditLedger(stores, epoch, ends, true, earlier, counts);
    for (const past of earlier) await auditEarlier(stores, past);
    assert.equal(totals.parked, letters.length);
    const parkedText = letters.map(({ record }) => record.toString()).join('\n');
    const stored = await this.#checkStored(stores);
    // What a client sent again after the topic was made anew may have a row of either epoch.
    if (earlier.length === 0) assert.equal(totals.rows, stored.size);
    for (const event of this.#events) {
      const isStored = stored.has(identityOf(event));
      if (event.isPromised || event.outcomes.has('parked')) {
        const isParked = () => parkedText.includes(event.json);
        if (event.isPoison) assert.ok(isParked(), `${event.id} is a dead letter`);
        else assert.ok(isStored || (this.isAnyRefused && isParked()), `${event.id} was promised`);
      }
      if (event.isRefused) assert.ok(!isStored, `${event.id} was refused`);
    }
  }

  /** Every stored event is one that was sent, as it was sent, and is there once. */
  async #checkStored(stores: readonly Store[]): Promise<Set<string>> {
    const sql = 'SELECT source, id, body FROM events FINAL';
    const all = await Promise.all(
      stores.map((store) => store.rows<{ source: string; id: string; body: string }>(sql)),
    );
    const rows = all.flat();
    const stored = new Set<string>();
    for (const row of rows) {
      const identity = identityOf(row);
      const event = this.#byIdentity.get(identity);
      assert.ok(event !== undefined, `${identity} was sent`);
      assert.ok(!event.isPoison, `${identity} is not poisoned`);
      assert.equal(row.body, event.json);
      assert.ok(!stored.has(identity), `${identity} is there once`);
      stored.add(identity);
    }
    return stored;
  }

  /** Asks a running service for some hundreds of events one by one, and for all of them page by page. */
  async checkReads(ess: EssProcess): Promise<void> {
    const sample = this.#events.filter((event) => event.isPromised && !event.isPoison);
    const stride = Math.max(1, Math.floor(sample.length / 300));
    for (let i = 0; i < sample.length; i += stride) {
      const event = sample[i];
      if (event === undefined) continue;
      const path = `/events/${encodeURIComponent(event.id)}?source=${encodeURIComponent(event.source)}`;
      const found = await ess.getJson<{ id: string; source: string; event: unknown }>(path);
      assert.deepEqual(found.event, JSON.parse(event.json), JSON.stringify(found));
    }
    const seen = new Set<string>();
    let next: string | null = '/events/?limit=10000';
    while (next !== null) {
      const response: Response = await fetch(ess.url + next, { headers: { accept: 'application/x-ndjson' } });
      assert.equal(response.status, 200);
      for (const line of (await response.text()).split('\n')) {
        if (line === '') continue;
        const identity = identityOf(JSON.parse(line) as { id: string; source: string });
        assert.ok(this.#byIdentity.has(identity), `${identity} was sent`);
        assert.ok(!seen.has(identity), `${identity} is listed once`);
        seen.add(identity);
      }
      next = /<([^>]+)>/.exec(response.headers.get('link') ?? '')?.[1] ?? null;
    }
    for (const event of sample) assert.ok(seen.has(identityOf(event)), `${event.id} is listed`);
  }
}

function identityOf({ source, id }: { readonly source: string; readonly id: string }): string {
  return JSON.stringify([source, id]);
}

/** Makes the store of a service that does not run refuse every event with the word `poison` in it. */
export function refusePoison(dataDir: string): Promise<void> {
  return alterEvents(dataDir, `ADD CONSTRAINT no_poison CHECK position(body, '${poison}') = 0`);
}

/** Mends that. */
export function allowPoison(dataDir: string): Promise<void> {
  return alterEvents(dataDir, 'DROP CONSTRAINT no_poison');
}

async function alterEvents(dataDir: string, change: string): Promise<void> {
  await pinEmbeddedEngine();
  const store = await openStore({ kind: 'embedded', path: join(dataDir, 'store') });
  await store.command(`ALTER TABLE events ${change}`);
  await store.close();
}
