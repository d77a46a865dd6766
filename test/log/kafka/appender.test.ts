// Appending to a topic of three brokers, while they work and while they fail. The invariant of every fault test: a
// number that `append` gave is the offset at which exactly that record is in the log; `log_unavailable` is never in it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { type ErrorCode, EssError } from '../../../src/errors.ts';
import { RecordWriter, recordFlags } from '../../../src/event/record.ts';
import { openKafkaAppender } from '../../../src/log/kafka/appender.ts';
import { stampText } from '../../../src/log/kafka/position_stamp.ts';
import type { KafkaTarget } from '../../../src/log/kafka/target.ts';
import type { AppendBatch, AppendResult, LogAppender } from '../../../src/log/log.ts';
import { KafkaCluster, needsKafka, type TopicOptions } from '../../support/kafka_cluster.ts';
import { type KcatRecord, kcat, needsKcat } from '../../support/kcat.ts';
import { until } from '../eventually.ts';
import { packed } from '../records.ts';

const deadLetterTopic = 'dead-letters';
const user = { username: 'ess', password: 'right' };

const needs = (): { readonly skip: string | false } => {
  const kafka = needsKafka();
  return kafka.skip === false ? needsKcat() : kafka;
};

const isEss =
  (...codes: readonly ErrorCode[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof EssError, String(error));
    assert.ok(codes.includes(error.code), `${error.code}: ${error.message}`);
    return true;
  };

/** A record by itself, with this id. */
function batchOf(partition: number, ids: readonly string[], bodyBytes = 20): AppendBatch {
  return { partition, count: ids.length, bytes: packed(ids, bodyBytes) };
}

/** The results, whether they came as an array or as one error for all. */
async function resultsOf(log: LogAppender, batches: readonly AppendBatch[]): Promise<AppendResult[]> {
  try {
    return await log.append(batches);
  } catch (error) {
    assert.ok(error instanceof EssError, String(error));
    return batches.map(() => error);
  }
}

/** Appends one batch; tries again where nothing was written, as on a machine that stands still for a second. */
async function appended(log: LogAppender, batch: AppendBatch): Promise<number> {
  for (;;) {
    const [result] = await resultsOf(log, [batch]);
    if (typeof result === 'number') return result;
    assert.ok(result?.code === 'log_unavailable', String(result));
  }
}

/** What was said of each record, by id. */
class Claims {
  readonly #said = new Map<string, { readonly partition: number; readonly result: AppendResult }>();

  note(partition: number, ids: readonly string[], result: AppendResult): void {
    for (const [i, id] of ids.entries())
      this.#said.set(id, { partition, result: typeof result === 'number' ? result + i : result });
  }

  /** Appends one batch for each of the partitions, with new ids, and notes what came of it. */
  async append(
    log: LogAppender,
    label: string,
    partitions: readonly number[],
    count = 3,
  ): Promise<AppendResult[]> {
    const ids = partitions.map((p) => Array.from({ length: count }, (_, i) => `${label}-${p}-${i}`));
    const results = await resultsOf(
      log,
      partitions.map((partition, i) => batchOf(partition, ids[i] ?? [])),
    );
    for (const [i, partition] of partitions.entries()) {
      const result = results[i];
      assert.ok(result !== undefined);
      this.note(partition, ids[i] ?? [], result);
    }
    return results;
  }

  /** How many records have a number. */
  get kept(): number {
    return [...this.#said.values()].filter(({ result }) => typeof result === 'number').length;
  }

  /** Holds every claim against what is in the log. */
  check(records: readonly KcatRecord[]): void {
    const at = new Map<string, string>();
    const ids = new Set<string>();
    for (const { partition, offset, key } of records) {
      const id = key?.toString() ?? '';
      at.set(`${partition}:${offset}`, id);
      assert.ok(!ids.has(id), `${id} is in the log twice`);
      ids.add(id);
    }
    for (const [id, { partition, result }] of this.#said) {
      if (typeof result === 'number') assert.equal(at.get(`${partition}:${result}`), id);
      else if (result.code === 'log_unavailable') assert.ok(!ids.has(id), `${id} was written after all`);
      else assert.equal(result.code, 'outcome_unknown');
    }
  }
}

describe('a Kafka appender', needs(), () => {
  let cluster: KafkaCluster;

  const targetOf = (topic: string, more: Partial<KafkaTarget> = {}): KafkaTarget => ({
    kind: 'kafka',
    brokers: cluster.brokers,
    topic,
    deadLetterTopic,
    group: `${topic}-group`,
    tls: null,
    sasl: null,
    compression: 'none',
    minInsyncReplicas: 2,
    appendDeadlineMs: 20_000,
    sessionTimeoutMs: 6000,
    fetchBytesMax: 1 << 20,
    eventBytesMax: 1 << 20,
    eventDepthMax: 50,
    ...more,
  });

  /** A new topic and a handle on it, closed afterwards. */
  async function withLog(
    options: TopicOptions,
    run: (log: LogAppender) => Promise<void>,
    more: Partial<KafkaTarget> = {},
  ): Promise<void> {
    // The records of these tests are of 1970, and Kafka would throw them away when it looks.
    const config = { 'retention.ms': '-1', ...options.config };
    await cluster.createTopic({ ...options, config });
    const log = await openKafkaAppender(targetOf(options.topic, more));
    try {
      await run(log);
    } finally {
      await log.close();
    }
  }

  /** All that is in these partitions, up to where the cluster says that they end. */
  async function everything(topic: string, partitions: number): Promise<KcatRecord[]> {
    const records: KcatRecord[] = [];
    for (let partition = 0; partition < partitions; partition += 1) {
      const { end } = await cluster.offsets(topic, partition);
      records.push(...(await kcat.consume(cluster.brokers, topic, { partition, count: end })));
    }
    return records;
  }

  before(async () => {
    cluster = await KafkaCluster.start({ sasl: user });
    await cluster.createTopic({ topic: deadLetterTopic, config: { 'cleanup.policy': 'compact' } });
  });
  after(() => cluster?.dispose());

  for (const compression of ['none', 'gzip'] as const) {
    it(`writes records that any consumer can read (${compression})`, async () => {
      const topic = `readable-${compression}`;
      await withLog(
        { topic, partitions: 3 },
        async (log) => {
          assert.equal(log.epoch, await cluster.topicId(topic));
          assert.equal(log.partitions, 3);
          const writer = new RecordWriter();
          const body = Buffer.from('{"id":"one","text":"\u00e4\u0000"}');
          writer.append(
            0,
            'one',
            'order',
            'shop',
            'subject',
            null,
            1_700_000_000_123.75,
            5,
            body,
            0,
            body.length,
          );
          writer.append(recordFlags.hasTime, 'two', 't', '', '', 'a key', 1_700_000_000_124, 5, body, 2, 4);
          const bytes = Buffer.from(writer.bytes);
          assert.equal(await appended(log, { partition: 2, count: 2, bytes }), 0);
          const [one, two] = await everything(topic, 3);
          assert.ok(one !== undefined && two !== undefined);
          assert.deepEqual([one.partition, one.offset, two.partition, two.offset], [2, 0, 2, 1]);
          assert.deepEqual([one.key?.toString(), two.key?.toString()], ['one', 'a key']);
          assert.deepEqual([one.timestampMs, two.timestampMs], [1_700_000_000_123, 1_700_000_000_124]);
          assert.deepEqual([one.value, two.value], [body, body.subarray(2, 4)]);
          assert.deepEqual(
            one.headers.map(({ name }) => name),
            ['ess'],
          );
          // A version byte, then the packed record without key and body.
          const head = one.headers[0]?.value ?? Buffer.alloc(0);
          assert.equal(head[0], 1);
          const end = bytes.readUInt32LE(0) - body.length;
          assert.ok(head.subarray(1).equals(bytes.subarray(0, end)));
        },
        { compression },
      );
    });
  }

  it('gives each batch its own offset, whatever is appended at the same time, a partition twice too', async () => {
    const topic = 'interleaved';
    await withLog({ topic, partitions: 4 }, async (first) => {
      const second = await openKafkaAppender(targetOf(topic));
      const claims = new Claims();
      let serial = 0;
      const batch = fc.record({ partition: fc.nat(3), count: fc.integer({ min: 1, max: 40 }) });
      const call = fc.record({ log: fc.nat(1), batches: fc.array(batch, { maxLength: 6 }) });
      try {
        await fc.assert(
          fc.asyncProperty(fc.array(call, { maxLength: 8 }), async (calls) => {
            await Promise.all(
              calls.map(async ({ log, batches }) => {
                const made = batches.map(({ partition, count }) => {
                  serial += 1;
                  const ids = Array.from({ length: count }, (_, i) => `${serial}-${i}`);
                  return { ids, batch: batchOf(partition, ids) };
                });
                const results = await resultsOf(
                  log === 0 ? first : second,
                  made.map((one) => one.batch),
                );
                assert.equal(results.length, made.length);
                for (const [i, { ids, batch: sent }] of made.entries()) {
                  const result = results[i];
                  assert.ok(result !== undefined);
                  if (result instanceof EssError) assert.ok(result.canRetry, result.message);
                  claims.note(sent.partition, ids, result);
                }
              }),
            );
          }),
          { numRuns: 15 },
        );
        const records = await everything(topic, 4);
        assert.ok(claims.kept > 0);
        claims.check(records);
        const states = await first.states();
        const ends = [0, 1, 2, 3].map((p) => records.filter(({ partition }) => partition === p).length);
        assert.deepEqual(
          states.map(({ start, end, bytes, committed }) => ({ start, end, bytes, committed })),
          ends.map((end) => ({ start: 0, end, bytes: 0, committed: 0 })),
        );
        await cluster.setGroupOffset(`${topic}-group`, topic, 2, 1, stampText(first.epoch, ''));
        assert.deepEqual(await first.committed([3, 2]), [0, 1]);
        assert.equal((await first.states())[2]?.committed, 1);
        assert.equal(await first.trim(), 0);
      } finally {
        await second.close();
      }
    });
  });

  it('refuses what is not a batch of this log', async () => {
    await withLog({ topic: 'strict', partitions: 2 }, async (log) => {
      const whole = batchOf(0, ['a', 'b']);
      for (const wrong of [
        { ...whole, partition: 2 },
        { ...whole, partition: -1 },
        { ...whole, count: 1 },
        { ...whole, count: 3 },
        { ...whole, bytes: whole.bytes.subarray(0, whole.bytes.length - 1) },
      ])
        await assert.rejects(log.append([whole, wrong]), isEss('internal'));
      assert.deepEqual(await everything('strict', 2), []);
      assert.deepEqual(await log.append([]), []);
    });
  });

  it('cuts a batch that the topic does not take whole, and refuses a single record that is too large', async () => {
    const topic = 'small-messages';
    await withLog({ topic, partitions: 2, config: { 'max.message.bytes': '20000' } }, async (log) => {
      const ids = (label: string) => Array.from({ length: 200 }, (_, i) => `${label}-${i}`);
      const claims = new Claims();
      // By what is known of the topic, and, once it takes less than that, by what the broker says.
      for (const label of ['known', 'told']) {
        claims.note(0, ids(label), await appended(log, batchOf(0, ids(label), 1000)));
        if (label === 'told') break;
        await cluster.setConfig(topic, { 'max.message.bytes': '8000' });
        await until(async () => {
          const [one] = await resultsOf(log, [batchOf(1, ['probe'], 10_000)]);
          return one instanceof EssError && one.code === 'too_large';
        });
      }
      const huge = ['fits', 'huge'];
      const [single] = await resultsOf(log, [batchOf(1, ['huge alone'], 30_000)]);
      assert.ok(single instanceof EssError && single.code === 'too_large');
      claims.note(0, ['fine'], await appended(log, batchOf(0, ['fine'])));
      // The part that fits is in the log, so that nothing certain can be said of the whole.
      const writer = Buffer.concat([packed(huge.slice(0, 1), 10), packed(huge.slice(1), 30_000)]);
      const [mixed] = await resultsOf(log, [{ partition: 1, count: 2, bytes: writer }]);
      assert.ok(mixed instanceof EssError && mixed.code === 'outcome_unknown');
      const records = await everything(topic, 2);
      claims.check(records.filter(({ partition }) => partition === 0));
      assert.equal(records.filter(({ partition }) => partition === 0).length, 401);
    });
  });

  it('says when the topic is another one, and gives no offsets of it', async () => {
    const topic = 'made-anew';
    await withLog({ topic, partitions: 2 }, async (log) => {
      const grown = await openKafkaAppender(targetOf(topic));
      try {
        assert.equal(await appended(log, batchOf(0, ['a', 'b'])), 0);
        await cluster.createPartitions(topic, 3);
        await until(async () => {
          const [result] = await resultsOf(grown, [batchOf(0, ['c'])]);
          return result instanceof EssError && result.code === 'log_changed';
        });
        await assert.rejects(grown.append([batchOf(0, ['c'])]), isEss('log_changed'));
        await assert.rejects(grown.states(), isEss('log_changed'));
      } finally {
        await grown.close();
      }
    });
    await cluster.deleteTopic(topic);
    await withLog({ topic, partitions: 2 }, async (log) => {
      await appended(log, batchOf(0, ['a', 'b', 'c']));
      await cluster.deleteTopic(topic);
      await cluster.createTopic({ topic, partitions: 2 });
      for (let changed = false; !changed; ) {
        const [result] = await resultsOf(log, [batchOf(0, ['d'])]);
        // What went to the new topic before that was seen is in it, but at none of our offsets.
        assert.ok(result instanceof EssError, `offset ${result}`);
        assert.ok(
          ['log_changed', 'outcome_unknown', 'log_unavailable'].includes(result.code),
          result.message,
        );
        changed = result.code === 'log_changed';
      }
    });
  });

  it('does not open what cannot keep its promises, or is not there', async () => {
    const open = (target: KafkaTarget, openTimeoutMs?: number) =>
      openKafkaAppender(target, openTimeoutMs).then(async (log) => {
        await log.close();
        assert.fail('it opened');
      });
    await assert.rejects(open(targetOf('absent'), 500), isEss('log_unavailable'));
    await assert.rejects(
      open(targetOf('absent', { brokers: ['127.0.0.1:1'] }), 500),
      isEss('log_unavailable'),
    );
    const wrong = { mechanism: 'plain', username: 'ess', password: 'wrong' } as const;
    const secured = { brokers: cluster.listeners.sasl ?? [] };
    await assert.rejects(
      open(targetOf('absent', { ...secured, sasl: wrong }), 500),
      isEss('log_unavailable'),
    );
    await cluster.createTopic({ topic: 'careless', config: { 'min.insync.replicas': '1' } });
    await assert.rejects(open(targetOf('careless')), isEss('bad_option'));
    await cluster.createTopic({ topic: 'single', replicationFactor: 1 });
    await assert.rejects(open(targetOf('single')), isEss('bad_option'));
    const right = { mechanism: 'scram-sha-512', ...user } as const;
    const log = await openKafkaAppender(
      targetOf('careless', { ...secured, sasl: right, minInsyncReplicas: 1 }),
    );
    assert.equal(await appended(log, batchOf(0, ['a'])), 0);
    await log.close();
    await assert.rejects(log.append([batchOf(0, ['b'])]), isEss('log_unavailable'));
  });

  it('tells the truth about every record while one broker is killed under load, and then another', async () => {
    const topic = 'killed';
    await withLog(
      { topic, partitions: 6 },
      async (log) => {
        const claims = new Claims();
        const partitions = [0, 1, 2, 3, 4, 5];
        let isLoading = true;
        let isRefused = false;
        const load = [0, 1, 2, 3].map(async (worker) => {
          for (let i = 0; isLoading; i += 1) {
            const results = await claims.append(log, `${worker}-${i}`, partitions, 20);
            isRefused = !results.some(isNumber);
            await sleep(5);
          }
        });
        const first = await cluster.leaderOf(topic, 0);
        await until(() => claims.kept > 1000);
        await cluster.node(first).kill();
        const second = await cluster.untilLeaderMoved(topic, 0, first);
        const before = claims.kept;
        await until(() => claims.kept > before + 1000);
        await cluster.node(second).kill();
        isRefused = false;
        await until(() => isRefused);
        isLoading = false;
        await Promise.all(load);
        for (const result of await claims.append(log, 'down', partitions))
          assert.ok(result instanceof EssError);
        for (const node of [first, second]) cluster.node(node).launch();
        await Promise.all([first, second].map((node) => cluster.node(node).ready()));
        await cluster.untilHealthy(topic);
        let attempts = 0;
        await until(async () => {
          attempts += 1;
          return (await claims.append(log, `end-${attempts}`, partitions)).every(isNumber);
        });
        claims.check(await everything(topic, 6));
      },
      { appendDeadlineMs: 5000 },
    );
  });

  it('goes on by itself when the cluster has left a hung broker behind', async () => {
    const topic = 'left-behind';
    await withLog(
      { topic, partitions: 3 },
      async (log) => {
        const claims = new Claims();
        const partitions = [0, 1, 2];
        let attempts = 0;
        const untilAll = (label: string) =>
          until(async () => {
            attempts += 1;
            return (await claims.append(log, `${label}-${attempts}`, partitions)).every(isNumber);
          });
        await untilAll('start');
        // Every partition has a replica on it: for a while none can be acknowledged.
        const hung = await cluster.leaderOf(topic, 0);
        cluster.node(hung).pause();
        try {
          const results = await claims.append(log, 'hung', partitions);
          for (const result of results) assert.ok(result instanceof EssError && result.canRetry);
          await untilAll('left');
          assert.notEqual(await cluster.leaderOf(topic, 0), hung);
        } finally {
          cluster.node(hung).resume();
        }
        await cluster.untilHealthy(topic);
        await untilAll('back');
        claims.check(await everything(topic, 3));
      },
      { appendDeadlineMs: 2000 },
    );
  });

  it('keeps appending to the others while one broker hangs, and to it when it is back', async () => {
    const topic = 'hung';
    const options = { topic, partitions: 6, replicationFactor: 1 };
    await withLog(
      options,
      async (log) => {
        const claims = new Claims();
        const partitions = [0, 1, 2, 3, 4, 5];
        await until(async () =>
          (await claims.append(log, `start-${claims.kept}`, partitions)).every(isNumber),
        );
        const leaders = await Promise.all(partitions.map((partition) => cluster.leaderOf(topic, partition)));
        const hung = leaders[0] ?? -1;
        cluster.node(hung).pause();
        // Appends that were sent before anybody could know are answered at the deadline, and no more than that wait.
        const early = [0, 1, 2, 3].map((i) => claims.append(log, `early-${i}`, partitions));
        let answered = 0;
        try {
          await until(async () => {
            const results = await claims.append(log, `while-${answered}`, partitions);
            answered += 1;
            return partitions.every((partition) => {
              const result = results[partition];
              if (leaders[partition] === hung)
                return result instanceof EssError && result.code === 'log_unavailable';
              return typeof result === 'number';
            });
          });
        } finally {
          cluster.node(hung).resume();
        }
        for (const results of await Promise.all(early)) {
          for (const [partition, result] of results.entries())
            if (leaders[partition] !== hung) assert.ok(typeof result === 'number', String(result));
        }
        await cluster.untilHealthy(topic);
        await until(async () => {
          answered += 1;
          return (await claims.append(log, `end-${answered}`, partitions)).every(isNumber);
        });
        claims.check(await everything(topic, 6));
      },
      { minInsyncReplicas: 1 },
    );
  });

  it('settles everything when it is closed', async () => {
    await withLog({ topic: 'closed', partitions: 3 }, async (log) => {
      const calls = Array.from({ length: 20 }, (_, i) => resultsOf(log, [batchOf(i % 3, [`id-${i}`])]));
      await log.close();
      for (const [result] of await Promise.all(calls)) assert.ok(result !== undefined);
    });
  });
});

const isNumber = (result: AppendResult | undefined): boolean => typeof result === 'number';
