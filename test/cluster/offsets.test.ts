// Invariant: whatever lies in the topic, and whatever becomes of the group's offsets, every offset of the log is stored,
// a duplicate, a dead letter or a hole, exactly once; what was gone before it was stored is a gap that is named.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';
import { kafkaTarget } from '../../src/config/kafka.ts';
import { loadConfig } from '../../src/config/load.ts';
import { KafkaClient } from '../../src/log/kafka/client.ts';
import { stampText } from '../../src/log/kafka/position_stamp.ts';
import { encodePlainBatch } from '../../src/log/kafka/wire/batch_encoder.ts';
import { crc32c } from '../../src/log/kafka/wire/crc32c.ts';
import { produceCall, produceOutcome } from '../../src/log/kafka/wire/produce.ts';
import { batchAt } from '../../src/log/kafka/wire/record_batch.ts';
import { openStore } from '../../src/store/client.ts';
import { Journal } from '../crash/journal.ts';
import { load, sendBatch } from '../crash/load.ts';
import { between, pick, type Random, seededRandom, testSeed } from '../crash/random.ts';
import { until } from '../log/eventually.ts';
import { auditLedger } from '../sink/audit.ts';
import type { EssProcess } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { type KcatProduceOptions, type KcatRecord, kcat, needsKcat } from '../support/kcat.ts';
import { ClusterRig, type Flags, type Scope } from './rig.ts';

/** How long anything may take on a slow, busy machine, ms. */
const patienceMs = 120_000;
const partitions = 12;
/** Offsets of groups without members go after this; the least that brokers take, ms. */
const offsetsRetentionMs = 60_000;

const flags: Flags = {
  partitions,
  producers: 1,
  sinks: 2,
  readers: 1,
  'sink-linger-ms': 20,
  'sink-inserts-per-second': 100,
  'kafka-session-timeout-ms': 6_000,
};

const canRun = needsKafka().skip === false ? needsKcat() : needsKafka();

describe('whatever lies in the topic and becomes of the offsets', canRun, () => {
  const seed = testSeed();
  const random = seededRandom(seed);
  let rig: ClusterRig;
  let folder: string;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ess-offsets-'));
    // Nothing here depends on a second broker.
    rig = await ClusterRig.start({
      brokers: 1,
      properties: {
        'offsets.retention.minutes': String(offsetsRetentionMs / 60_000),
        'offsets.retention.check.interval.ms': '1000',
        'log.cleaner.backoff.ms': '200',
      },
    });
  });
  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    await rig?.dispose();
  });

  async function withScope(work: (scope: Scope) => Promise<void>, more: Flags = {}): Promise<void> {
    const scope = await rig.scope({ ...flags, ...more });
    try {
      await work(scope);
    } finally {
      await scope.end();
    }
  }

  /** Prepared first, so that its offsets have expired when the other tests are through. */
  let expiring: { readonly scope: Scope; readonly journal: Journal; readonly sinceMs: number };

  test('(first half of the last test: a group is left to expire)', async () => {
    const scope = await rig.scope(flags);
    try {
      const ess = await scope.start('all');
      const journal = new Journal('expired');
      const untilMs = Date.now() + 1000;
      await load(ess, journal, random, () => Date.now() > untilMs, { clients: 4 });
      await scope.drained();
      assert.equal(await ess.end('SIGTERM'), 0);
      expiring = { scope, journal, sinceMs: Date.now() };
    } catch (error) {
      await scope.end();
      throw error;
    }
  });

  test('what is no event becomes a dead letter, what is none to be seen a hole, and all between is stored', () =>
    withScope(
      async (scope) => {
        const ess = await scope.start('all');
        const written = new Written(rig, scope, random);
        await written.foreign();
        await written.undecodable();
        await written.transactions();
        const own = await written.own(ess);
        assert.equal(await ess.end('SIGTERM'), 0);
        await written.compacted();
        const reader = await scope.start('all');
        await written.hold(reader);
        await holdOwn(scope, own);
        assert.equal(await reader.end('SIGTERM'), 0);
      },
      { 'event-bytes-max': 20_000, 'event-depth-max': 20 },
    ));

  test('a million foreign records are drained by one sink, each of them once', () =>
    withScope(async (scope) => {
      const count = 1_000_000;
      const file = join(folder, 'events');
      const lines = Array.from(
        { length: count },
        (_, i) => `{"id":"e-${i}","subject":"s-${i % 1000}","n":${i}}`,
      );
      writeFileSync(file, `${lines.join('\n')}\n`);
      await kcat.produce(rig.kafka.brokers, scope.topic, { file }, { codec: 'lz4' });
      const startMs = Date.now();
      await scope.start('sink');
      const states = await scope.drained();
      console.log(
        `drained ${count} records in ${Date.now() - startMs} ms, the start of the process included`,
      );
      const totals = await audit(
        scope,
        states.map(({ end }) => end),
      );
      assert.deepEqual(totals, { rows: count, duplicates: 0, parked: 0, holes: 0 });
      const stores = await scope.openStores();
      let sum = 0;
      for (const store of stores) {
        const [row] = await store.rows<Record<'n' | 'ids' | 'sum', string>>(
          "SELECT count() AS n, uniqExact(id) AS ids, sum(JSONExtractUInt(body, 'n')) AS sum FROM events FINAL",
        );
        assert.equal(row?.n, row?.ids);
        sum += Number(row?.sum);
        await store.close();
      }
      assert.equal(sum, (count * (count - 1)) / 2);
    }));

  test('a position that was lost, or moved forwards, back or beyond the end, gives way to the ledger', () =>
    withScope(async (scope) => {
      const { kafka } = rig;
      const { topic, group } = scope;
      const ingest = await scope.start('ingest', { flags: { 'http-deadline-ms': 3_000 } });
      let sink = await scope.start('sink');
      const journal = new Journal('moved');
      /** To the end, beyond it, to the start, anywhere, or nowhere: each partition in another way. */
      const move = async (): Promise<void> => {
        const turn = between(random, 0, 4);
        for (let partition = 0; partition < partitions; partition += 1) {
          const { end } = await kafka.offsets(topic, partition);
          const places = [end, end + between(random, 1, 1000), 0, between(random, 0, end), null];
          const place = places[(partition + turn) % places.length] ?? null;
          if (place !== null) await kafka.setGroupOffset(group, topic, partition, place);
        }
      };
      const steps = [
        { name: 'lost, behind a backlog', backlog: 100_000, change: () => deleteGroup(scope) },
        { name: 'moved', backlog: 300, change: move },
        { name: 'moved, with nothing to do', backlog: 0, change: move },
      ];
      for (const { name, backlog, change } of steps) {
        const startMs = Date.now();
        if (backlog > 0) {
          const untilMs = Date.now() + between(random, 200, 600);
          await load(ingest, journal, random, () => Date.now() > untilMs, { clients: 4 });
        } else await scope.drained();
        assert.equal(await sink.end('SIGTERM'), 0);
        await sendMany(ingest, journal, backlog);
        await change();
        sink = await scope.start('sink');
        await scope.drained();
        console.log(`${name}: caught up after ${Date.now() - startMs} ms`);
        const epoch = (await kafka.topicId(topic)) ?? '';
        const untilMs = Date.now() + patienceMs;
        for (let partition = 0; partition < partitions; partition += 1) {
          const { end } = await kafka.offsets(topic, partition);
          for (;;) {
            const { offset, metadata } = await kafka.groupOffset(group, topic, partition);
            if (offset === end && metadata === stampText(epoch, '')) break;
            assert.ok(
              Date.now() < untilMs,
              `position ${offset} of partition ${partition}, which ends at ${end}`,
            );
            await sleep(50);
          }
        }
      }
      await scope.hold(journal);
      await journal.checkReads(ingest);
      for (const ess of [ingest, sink]) {
        await untilStats(
          ess,
          (stats) =>
            stats.reasons.length === 0 &&
            stats.conservation.in_flight === 0 &&
            stats.conservation.exact !== false,
        );
      }
    }));

  test('records that are gone before they were stored halt their partition, by name, and no other', () =>
    withScope(async (scope) => {
      const { kafka } = rig;
      const { topic, group } = scope;
      const ingest = await scope.start('ingest', { flags: { 'http-deadline-ms': 3_000 } });
      let sink = await scope.start('sink');
      const journal = new Journal('gap');
      await sendMany(ingest, journal, 1000);
      const ends = (await scope.drained()).map(({ end }) => end);
      assert.equal(await sink.end('SIGTERM'), 0);
      await sendMany(ingest, journal, 1000);
      const victim = between(random, 0, partitions - 1);
      const emptied = (victim + between(random, 1, partitions - 1)) % partitions;
      const wanted: number[] = [];
      for (let partition = 0; partition < partitions; partition += 1) {
        const { end } = await kafka.offsets(topic, partition);
        const stored = ends[partition] ?? 0;
        wanted.push(partition === victim || partition === emptied ? stored : end);
        if (partition === victim) {
          assert.ok(end - stored > 1);
          await kafka.deleteRecords(topic, partition, between(random, stored + 1, end - 1));
        }
        if (partition === emptied) await kafka.deleteRecords(topic, partition, -1);
      }
      for (const visit of ['the first', 'the second']) {
        sink = await scope.start('sink');
        const isNamed = (reasons: readonly string[]): boolean =>
          [victim, emptied].every((partition) =>
            reasons.some(
              (reason) =>
                reason.startsWith(`partition ${partition} `) &&
                reason.includes('gap') &&
                reason.includes(String(ends[partition])),
            ),
          );
        await untilStats(sink, ({ reasons, partitions: all, conservation }) => {
          const isRestDone = all.every(({ partition, stored }) => stored === wanted[partition]);
          return isNamed(reasons) && isRestDone && conservation.exact === true;
        });
        // Its threads join one after the other: a partition that changes hands has no reason until it is looked at again.
        await until(async () => {
          const ready = await fetch(`${sink.url}/readyz`);
          assert.equal(ready.status, 200, 'no reason to keep requests away');
          const said = (await ready.json()) as {
            readonly status: string;
            readonly reasons: readonly string[];
          };
          return said.status === 'degraded' && isNamed(said.reasons);
        });
        assert.equal((await fetch(`${ingest.url}/readyz`)).status, 200);
        // As long as it stays so, nothing is stepped over.
        await sleep(1000);
        await audit(scope, wanted);
        for (const partition of [victim, emptied]) {
          const position = await kafka.groupOffset(group, topic, partition);
          assert.equal(position.offset, ends[partition], `${visit} sink`);
        }
        if (visit === 'the first')
          assert.equal(await sink.end('SIGTERM'), 0, sink.output.slice(-30).join(''));
      }
      // A person accepts the loss by writing it into the ledger; the sink goes on by itself.
      let lost = 0;
      for (const partition of [victim, emptied]) {
        const first = ends[partition] ?? 0;
        const { start } = await kafka.offsets(topic, partition);
        lost += start - first;
        await writeHoles(scope, partition, first, start - 1);
      }
      await scope.drained();
      await untilStats(sink, ({ reasons, conservation }) => {
        return reasons.length === 0 && conservation.in_flight === 0 && conservation.exact === true;
      });
      const stored = await idsOf(scope);
      const missing = journal.events.filter(({ id }) => !stored.has(id));
      assert.equal(missing.length, lost);
      journal.excuse(missing);
      await scope.hold(journal);
    }));

  test('a topic that was in use before goes on from where it starts, and what was gone is counted', () =>
    withScope(async (scope) => {
      const lines = Array.from({ length: 1200 }, (_, i) => `{"id":"old-${i}"}`);
      await kcat.produce(rig.kafka.brokers, scope.topic, lines);
      let gone = 0;
      let left = 0;
      for (let partition = 0; partition < partitions; partition += 1) {
        const { end } = await rig.kafka.offsets(scope.topic, partition);
        // One keeps everything, one nothing.
        const cut = partition === 0 ? 0 : partition === 1 ? end : between(random, 0, end);
        if (cut > 0) await rig.kafka.deleteRecords(scope.topic, partition, cut);
        gone += cut;
        left += end - cut;
      }
      const ess = await scope.start('all');
      const states = await scope.drained();
      const totals = await audit(
        scope,
        states.map(({ end }) => end),
      );
      assert.deepEqual(totals, { rows: left, duplicates: 0, parked: 0, holes: gone });
      const { conservation } = await untilStats(ess, ({ reasons }) => reasons.length === 0);
      assert.equal(conservation.holes, gone);
      assert.equal(conservation.stored, left);
      assert.equal(conservation.exact, true);
      // Its output comes another way than its answers, and may come later.
      const untilMs = Date.now() + patienceMs;
      while (!ess.output.join('').includes('records were gone before the first read')) {
        assert.ok(Date.now() < untilMs, ess.output.join(''));
        await sleep(20);
      }
    }));

  test('a position that has expired gives way to the ledger', async () => {
    const { scope, journal, sinceMs } = expiring;
    try {
      const { topic, group } = scope;
      const untilMs = sinceMs + offsetsRetentionMs + patienceMs;
      const areExpired = async (): Promise<boolean> => {
        for (let partition = 0; partition < partitions; partition += 1)
          if ((await rig.kafka.groupOffset(group, topic, partition)).offset !== -1) return false;
        return true;
      };
      while (!(await areExpired())) {
        assert.ok(Date.now() < untilMs, 'the offsets never expire');
        await sleep(500);
      }
      const ess = await scope.start('all');
      await sendMany(ess, journal, 500);
      await scope.hold(journal);
      await untilStats(ess, ({ reasons }) => reasons.length === 0);
    } finally {
      await scope.end();
    }
  });

  async function deleteGroup({ group }: Scope): Promise<void> {
    const admin = new Kafka({ brokers: rig.kafka.brokers, logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    try {
      await admin.deleteGroups([group]);
    } finally {
      await admin.disconnect();
    }
  }

  async function writeHoles(
    { database }: Scope,
    partition: number,
    first: number,
    last: number,
  ): Promise<void> {
    const [target] = rig.nodes[partition % rig.nodes.length]?.targets(database) ?? [];
    assert.ok(target !== undefined);
    const store = await openStore(target);
    await store.command(
      `INSERT INTO ledger (epoch, partition, first, last, rows, duplicates, parked, holes, store_time)
       SELECT any(epoch), ${partition}, ${first}, ${last}, 0, 0, 0, ${last - first + 1}, now64(3) FROM ledger`,
    );
    await store.close();
  }

  async function idsOf(scope: Scope): Promise<ReadonlySet<string>> {
    const stores = await scope.openStores();
    const rows = await Promise.all(
      stores.map((store) => store.rows<{ id: string }>('SELECT id FROM events')),
    );
    for (const store of stores) await store.close();
    return new Set(rows.flat().map(({ id }) => id));
  }

  async function audit(scope: Scope, ends: readonly number[]) {
    const log = await scope.openLog();
    const stores = await scope.openStores();
    try {
      return await auditLedger(stores, log.epoch, ends);
    } finally {
      for (const store of stores) await store.close();
      await log.close();
    }
  }
});

/** Sends events in batches that need no sink to be answered. */
async function sendMany(ess: EssProcess, journal: Journal, count: number): Promise<void> {
  for (let left = count; left > 0; left -= 1000) {
    const batch = Array.from({ length: Math.min(left, 1000) }, () => journal.create());
    await sendBatch(ess, batch, '?ack=log');
  }
  assert.ok(journal.events.slice(-count).every((event) => count === 0 || event.isPromised));
}

interface Stats {
  readonly reasons: readonly string[];
  readonly conservation: {
    readonly stored: number | null;
    readonly holes: number | null;
    readonly in_flight: number;
    readonly exact: boolean | null;
  };
  readonly counters: Readonly<Record<string, number>>;
  readonly partitions: readonly { readonly partition: number; readonly stored: number | null }[];
}

/** Waits until the process says so of itself; gives what it said. */
async function untilStats(ess: EssProcess, holds: (stats: Stats) => boolean): Promise<Stats> {
  const untilMs = Date.now() + patienceMs;
  for (;;) {
    const stats = await ess.getJson<Stats>('/stats');
    if (holds(stats)) return stats;
    if (Date.now() > untilMs) {
      const { reasons, conservation, partitions: all } = stats;
      const said = JSON.stringify({ reasons, conservation, all });
      assert.fail(`never: ${holds}\n${said}\n${ess.output.slice(-30).join('')}`);
    }
    await sleep(100);
  }
}

// ---- the topic as others write it -------------------------------------------------------------------------------------

type Sample =
  | { readonly kind: 'event'; readonly id: string | null; readonly text: string }
  | { readonly kind: 'letter'; readonly code: string; readonly bytes: Buffer };

interface Own {
  readonly key: string;
  readonly json: string;
  readonly partition: number;
  readonly offset: number;
}

interface LetterJson {
  readonly partition: number;
  readonly offset: number;
  readonly code: string;
  readonly id: string;
  readonly event: unknown;
  readonly raw: string;
}

const good = (id: string | null, n = 0): Sample => ({
  kind: 'event',
  id,
  text: JSON.stringify(id === null ? { n, type: 'foreign' } : { id, n, text: 'grün 🟢' }),
});
const bad = (code: string, text: string | Buffer): Sample => ({
  kind: 'letter',
  code,
  bytes: Buffer.from(text),
});

/** What one topic was given, by place; offsets that are not in it are holes. */
class Written {
  readonly #rig: ClusterRig;
  readonly #scope: Scope;
  readonly #random: Random;
  readonly #samples = new Map<string, Sample>();
  #count = 0;

  constructor(rig: ClusterRig, scope: Scope, random: Random) {
    this.#rig = rig;
    this.#scope = scope;
    this.#random = random;
  }

  /** Records of every kind that is no event, in one partition, between events with and without an id. */
  async foreign(): Promise<void> {
    const large = `{"id":"large","text":"${'x'.repeat(30_000)}"}`;
    const kinds: readonly Sample[] = [
      bad('malformed_json', 'no JSON at all'),
      bad('malformed_json', '{"id":"cut off'),
      bad(
        'malformed_json',
        Buffer.concat([Buffer.from('{"id":"'), Buffer.of(0xff, 0xfe), Buffer.from('"}')]),
      ),
      bad('invalid_event', '[{"id":"in an array"}]'),
      bad('invalid_event', '"a text"'),
      bad('invalid_event', 'null'),
      bad('invalid_event', '42'),
      bad('invalid_event', '{"id":7}'),
      bad('invalid_event', '{"id":"twice","id":"twice"}'),
      bad('invalid_event', '{"time":"yesterday"}'),
      bad('too_large', large),
      bad('too_large', `{"deep":${'['.repeat(30)}${']'.repeat(30)}}`),
    ];
    const partition = 3;
    // Right behind each other, or with events between them; some in one batch with others, some not.
    const mixed = kinds.flatMap((kind) => [
      ...Array.from({ length: between(this.#random, 0, 2) }, () => this.#good()),
      kind,
    ]);
    while (mixed.length > 0) await this.#write(partition, mixed.splice(0, between(this.#random, 1, 15)));
    await this.#write(partition, [this.#good()]);
    await this.#writeEmpty(partition, 'malformed_json', false);
    await this.#writeEmpty(partition, 'no_value', true);
    for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const) {
      const kind = pick(this.#random, kinds) ?? bad('malformed_json', 'none');
      const many = Array.from({ length: 10 }, () => this.#good());
      await this.#write(between(this.#random, 6, 11), [this.#good(), kind, ...many], { codec });
    }
  }

  /** Batches that the broker takes and nobody can read. */
  async undecodable(): Promise<void> {
    const { topic, flags: given } = this.#scope;
    const argv = Object.entries(given).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const target = kafkaTarget(loadConfig(argv, {}, 2));
    assert.ok(target !== null);
    const client = new KafkaClient(target, { name: 'test', requestTimeoutMs: 10_000 });
    const partition = 4;
    try {
      for (const damage of ['nothing', 'offsets', 'zstd', 'gzip', 'lz4', 'snappy'] as const) {
        const records = Array.from({ length: 3 }, (_, i) => ({
          key: Buffer.from(`damaged-${damage}-${i}`),
          value: Buffer.from(`{"id":"damaged-${damage}-${i}"}`),
          timestampMs: Date.now(),
          headers: [],
        }));
        const batch = encodePlainBatch(records);
        damageBatch(batch, damage);
        await this.#write(partition, [this.#good(), this.#good()]);
        const { end } = await this.#rig.kafka.offsets(topic, partition);
        const leader = await this.#rig.kafka.leaderOf(topic, partition);
        const call = produceCall({ topic, timeoutMs: 10_000, batches: [{ partition, records: batch }] });
        await client.metadata(0);
        const [answer] = await client.send(leader, call, 12_000);
        assert.ok(answer !== undefined);
        const isTaken = produceOutcome(answer) === 'written';
        console.log(`a batch with damaged ${damage}: ${isTaken ? 'taken' : `refused, ${answer.errorCode}`}`);
        if (damage === 'nothing' || damage === 'offsets') assert.ok(isTaken, damage);
        if (!isTaken) continue;
        assert.equal(answer.baseOffset, end);
        if (damage === 'nothing') {
          for (const [i, { value }] of records.entries())
            this.#note(partition, end + i, good(`damaged-${damage}-${i}`), value.toString());
        } else this.#note(partition, end, bad('corrupt', batch.subarray(batchAt.attributes)));
      }
      await this.#write(partition, [this.#good()]);
    } finally {
      await client.close();
    }
  }

  /** Transactions that are committed or aborted: what is aborted, and every marker, is a hole. */
  async transactions(): Promise<void> {
    const { topic } = this.#scope;
    const partition = 2;
    const kafka = new Kafka({ brokers: this.#rig.kafka.brokers, logLevel: logLevel.NOTHING });
    const producer = kafka.producer({ transactionalId: topic, idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    for (const isKept of [true, false, false, true]) {
      const { end } = await this.#rig.kafka.offsets(topic, partition);
      const samples = Array.from({ length: between(this.#random, 1, 5) }, () => this.#good());
      const messages = samples.map((sample) => ({
        partition,
        key: null,
        value: sample.kind === 'event' ? sample.text : '',
      }));
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages });
      if (isKept) await transaction.commit();
      else await transaction.abort();
      if (isKept) for (const [i, sample] of samples.entries()) this.#note(partition, end + i, sample);
    }
    await producer.disconnect();
    await this.#write(partition, [this.#good(), bad('malformed_json', 'after all')]);
  }

  /** Events of ESS itself, with keys of every kind. */
  async own(ess: EssProcess): Promise<readonly Own[]> {
    const keys = ['a', 'ab', 'abc', 'abcd', 'Schlüssel', '鍵', '🔑', ' ', '1', 'x'.repeat(1000)];
    const own: Own[] = [];
    for (let i = 0; i < 40; i += 1) {
      const id = `own-${i}`;
      const key = i < keys.length ? keys[i] : between(this.#random, 0, 1) === 0 ? undefined : `key-${i}`;
      const json = JSON.stringify({ id, key, text: 'as it was sent', n: i });
      const answer = await ess.post(json);
      assert.equal(answer.status, 200);
      const { partition, offset } = (await answer.json()) as Own;
      own.push({ key: key ?? id, json, partition, offset });
      this.#note(partition, offset, { kind: 'event', id, text: json });
    }
    return own;
  }

  /** Holes that compaction left. Nobody may be reading the topic. */
  async compacted(): Promise<void> {
    const { kafka } = this.#rig;
    const { topic } = this.#scope;
    const partition = 5;
    const startMs = Date.now();
    const settings = {
      'cleanup.policy': 'compact',
      'segment.ms': '100',
      'min.cleanable.dirty.ratio': '0.01',
    };
    await kafka.setConfig(topic, settings);
    const read = (): Promise<KcatRecord[]> => kcat.consume(kafka.brokers, topic, { partition });
    for (let round = 0; ; round += 1) {
      const lines = Array.from({ length: 10 }, (_, i) => `again-${i}\t{"id":"round-${round}-${i}"}`);
      await kcat.produce(kafka.brokers, topic, lines, { partition, keyDelimiter: '\t' });
      const { end } = await kafka.offsets(topic, partition);
      if ((await read()).length < end - 30) break;
      assert.ok(Date.now() < startMs + patienceMs, 'compacted away');
      await sleep(100);
    }
    await kafka.setConfig(topic, { 'cleanup.policy': 'delete', 'segment.ms': null });
    // A round of the cleaner may be under way.
    let records = await read();
    for (let before = -1; before !== records.length; ) {
      before = records.length;
      await sleep(1500);
      records = await read();
    }
    for (const { offset, value } of records) {
      const text = value?.toString() ?? '';
      this.#note(partition, offset, { kind: 'event', id: (JSON.parse(text) as { id: string }).id, text });
    }
    console.log(`compacted in ${Date.now() - startMs} ms`);
  }

  /** Waits until everything is stored, and finds each offset where it belongs: by the store, by HTTP and by kcat. */
  async hold(ess: EssProcess): Promise<void> {
    const scope = this.#scope;
    const ends = (await scope.drained()).map(({ end }) => end);
    const log = await scope.openLog();
    const stores = await scope.openStores();
    const { epoch } = log;
    const samples = [...this.#samples].map(([place, sample]) => {
      const [partition = 0, offset = 0] = place.split(':').map(Number);
      return { partition, offset, place: `${epoch}:${place}`, sample };
    });
    samples.sort((a, b) => a.partition - b.partition || a.offset - b.offset);
    const events = samples.flatMap(({ partition, offset, place, sample }) =>
      sample.kind === 'event' ? [{ partition, offset, id: sample.id ?? place, body: sample.text }] : [],
    );
    const letters = samples.flatMap(({ sample, ...place }) =>
      sample.kind === 'letter' ? [{ ...place, code: sample.code, bytes: sample.bytes }] : [],
    );
    try {
      const totals = await auditLedger(stores, epoch, ends);
      const offsets = ends.reduce((sum, end) => sum + end, 0);
      assert.deepEqual(totals, {
        rows: events.length,
        duplicates: 0,
        parked: letters.length,
        holes: offsets - samples.length,
      });
      const rows = await Promise.all(
        stores.map((store) =>
          store.rows<{ partition: number; offset: string; id: string; body: string }>(
            'SELECT e.partition, e.offset, e.id, e.body FROM events AS e FINAL',
          ),
        ),
      );
      const stored = rows.flat().map((row) => ({ ...row, offset: Number(row.offset) }));
      stored.sort((a, b) => a.partition - b.partition || a.offset - b.offset);
      assert.deepEqual(
        stored.map(({ partition, offset, id, body }) => ({ partition, offset, id, body })),
        events,
      );
    } finally {
      for (const store of stores) await store.close();
      await log.close();
    }
    // Those whose id is their place, and some others.
    for (const { partition, offset, id, body } of events) {
      if (!id.startsWith(epoch) && between(this.#random, 0, 2) > 0) continue;
      const found = await ess.getJson<Own & { id: string; event: unknown }>(
        `/events/${encodeURIComponent(id)}`,
      );
      assert.deepEqual(
        { id: found.id, partition: found.partition, offset: found.offset, event: found.event },
        { id, partition, offset, event: JSON.parse(body) },
      );
    }
    await this.#holdLetters(ess, letters);
    const { conservation } = await untilStats(ess, ({ reasons }) => reasons.length === 0);
    assert.equal(conservation.exact, true);
  }

  async #holdLetters(
    ess: EssProcess,
    letters: readonly { partition: number; offset: number; place: string; code: string; bytes: Buffer }[],
  ): Promise<void> {
    const listed: LetterJson[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      type Page = { total: number; dead_letters: LetterJson[]; next_cursor: string | null };
      const page: Page = await ess.getJson(
        `/dead-letters?limit=7${cursor === '' ? '' : `&cursor=${cursor}`}`,
      );
      assert.equal(page.total, letters.length);
      listed.push(...page.dead_letters);
      cursor = page.next_cursor;
    }
    assert.deepEqual(
      listed.map(({ partition, offset, code, id, event }) => ({ partition, offset, code, id, event })),
      letters.map(({ partition, offset, code, place }) => ({
        partition,
        offset,
        code,
        id: place,
        event: null,
      })),
    );
    const kept = await kcat.consume(this.#rig.kafka.brokers, `${this.#scope.topic}-dead-letters`);
    // One may have been written again by the sink that took its partition over; nothing goes round.
    assert.equal(new Set(kept.map(({ key }) => key?.toString())).size, letters.length);
    assert.ok(kept.length <= 3 * letters.length, `${kept.length} letters`);
    for (const [i, { code, place, bytes }] of letters.entries()) {
      // A batch has its offset, its length and more before what was sent; a large record is cut.
      const isSame = (raw: Buffer): boolean =>
        code === 'corrupt'
          ? raw.subarray(batchAt.attributes).equals(bytes)
          : raw.equals(bytes.subarray(0, raw.length)) && raw.length === Math.min(bytes.length, 20_000);
      assert.ok(isSame(Buffer.from(listed[i]?.raw ?? '', 'base64')), `the bytes of ${place} by HTTP`);
      const record = kept.findLast(({ key }) => key?.toString() === place);
      assert.ok(record !== undefined && record.value !== null, place);
      assert.ok(isSame(record.value), `the bytes of ${place} in the topic`);
      assert.equal(record.headers.find(({ name }) => name === 'code')?.value?.toString(), code);
    }
  }

  #good(): Sample {
    this.#count += 1;
    return good(between(this.#random, 0, 2) === 0 ? null : `good-${this.#count}`, this.#count);
  }

  #note(partition: number, offset: number, sample: Sample, text?: string): void {
    const noted = sample.kind === 'event' && text !== undefined ? { ...sample, text } : sample;
    this.#samples.set(`${partition}:${offset}`, noted);
  }

  /** Writes records into one partition, one behind the other. */
  async #write(
    partition: number,
    samples: readonly Sample[],
    options: KcatProduceOptions = {},
  ): Promise<void> {
    const { kafka } = this.#rig;
    const { topic } = this.#scope;
    const { end } = await kafka.offsets(topic, partition);
    const records = samples.map((sample) => (sample.kind === 'event' ? sample.text : sample.bytes));
    await kcat.produce(kafka.brokers, topic, records, { partition, delimiter: '\u0001', ...options });
    for (const [i, sample] of samples.entries()) this.#note(partition, end + i, sample);
  }

  async #writeEmpty(partition: number, code: string, isEmptyNull: boolean): Promise<void> {
    const { kafka } = this.#rig;
    const { topic } = this.#scope;
    const { end } = await kafka.offsets(topic, partition);
    const options = { partition, keyDelimiter: '\t', isEmptyNull };
    await kcat.produce(kafka.brokers, topic, [`empty-${code}\t`], options);
    this.#note(partition, end, bad(code, ''));
  }
}

/** Makes the batch unreadable, with a checksum that is right. */
function damageBatch(
  batch: Buffer,
  damage: 'nothing' | 'offsets' | 'zstd' | 'gzip' | 'lz4' | 'snappy',
): void {
  const codecs: Readonly<Record<string, number>> = { gzip: 1, snappy: 2, lz4: 3, zstd: 4 };
  batch.writeInt16BE(codecs[damage] ?? 0, batchAt.attributes);
  if (damage === 'offsets') {
    // The first record claims to be the second: length, attributes and time delta take a byte each before it.
    assert.equal(batch[batchAt.records + 3], 0);
    batch[batchAt.records + 3] = 2;
  }
  batch.writeUInt32BE(crc32c(batch, batchAt.attributes, batch.length), batchAt.crc);
}

/** What ESS wrote, as any other client reads it. */
async function holdOwn({ rig, topic }: Scope, own: readonly Own[]): Promise<void> {
  const { brokers } = rig.kafka;
  const byPlace = new Map(
    (await kcat.consume(brokers, topic)).map((record) => [`${record.partition}:${record.offset}`, record]),
  );
  const keys = `${topic}-keys`;
  await rig.kafka.createTopic({ topic: keys, partitions });
  await kcat.produce(
    brokers,
    keys,
    own.map(({ key, json }) => `${key}\t${json}`),
    { keyDelimiter: '\t', properties: { partitioner: 'murmur2' } },
  );
  const partitionOf = new Map(
    (await kcat.consume(brokers, keys)).map(({ key, partition }) => [key?.toString(), partition]),
  );
  for (const { key, json, partition, offset } of own) {
    const record = byPlace.get(`${partition}:${offset}`);
    assert.equal(record?.key?.toString(), key);
    assert.equal(record.value?.toString(), json);
    assert.deepEqual(
      record.headers.map(({ name }) => name),
      ['ess'],
    );
    assert.equal(partitionOf.get(key), partition, `the partition of ${key}`);
  }
}
