// Dead letters on a compacted topic: what was parked is found again, by every handle, as it was; and what is removed
// is gone.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { EssError } from '../../../src/errors.ts';
import { RecordWriter, recordFlags } from '../../../src/event/record.ts';
import { KafkaDeadLetters } from '../../../src/log/kafka/dead_letters.ts';
import type { KafkaTarget } from '../../../src/log/kafka/target.ts';
import type { DeadLetter } from '../../../src/log/log.ts';
import { KafkaCluster, needsKafka } from '../../support/kafka_cluster.ts';
import { kcat, needsKcat } from '../../support/kcat.ts';
import { packed } from '../records.ts';

const epoch = '0123456789abcdef'.repeat(2);

const needs = (): { readonly skip: string | false } => {
  const kafka = needsKafka();
  return kafka.skip === false ? needsKcat() : kafka;
};

function letterOf(partition: number, offset: number, reason: string, bodyBytes = 30): DeadLetter {
  const record = packed([`${partition}-${offset}`], bodyBytes);
  return { partition, offset, timeMs: 1_700_000_000_123, code: '27', reason, record };
}

/** One packed record. */
function recordOf(flags: number, texts: readonly string[], key: string | null, body: Buffer): Buffer {
  const writer = new RecordWriter();
  const [id = '', type = '', source = '', subject = ''] = texts;
  writer.append(flags, id, type, source, subject, key, 1234.5, -5, body, 0, body.length);
  return Buffer.from(writer.bytes);
}

describe('dead letters on Kafka', needs(), () => {
  let cluster: KafkaCluster;
  const open: KafkaDeadLetters[] = [];
  let topics = 0;

  const targetOf = (deadLetterTopic: string): KafkaTarget => ({
    kind: 'kafka',
    brokers: cluster.brokers,
    topic: 'events',
    deadLetterTopic,
    group: 'group',
    tls: null,
    sasl: null,
    compression: 'none',
    minInsyncReplicas: 2,
    appendDeadlineMs: 8000,
    sessionTimeoutMs: 6000,
    fetchBytesMax: 1 << 20,
    eventBytesMax: 1 << 20,
    eventDepthMax: 50,
  });

  const make = (topic: string, config: Readonly<Record<string, string>> = {}): Promise<string> =>
    cluster.createTopic({
      topic,
      config: { 'cleanup.policy': 'compact', 'max.message.bytes': String(4 << 20), ...config },
    });

  /** A new topic. */
  async function topicOf(config: Readonly<Record<string, string>> = {}): Promise<string> {
    topics += 1;
    const topic = `letters-${topics}`;
    await make(topic, config);
    return topic;
  }

  /** A handle of its own, closed at the end. */
  function handle(topic: string, ofEpoch = epoch): KafkaDeadLetters {
    const letters = new KafkaDeadLetters(targetOf(topic), ofEpoch);
    open.push(letters);
    return letters;
  }

  before(async () => {
    cluster = await KafkaCluster.start();
  });
  after(async () => {
    await Promise.all(open.map((letters) => letters.close()));
    await cluster?.dispose();
  });

  it('come back in the order of partition and offset, from any position, for every handle', async () => {
    const topic = await topicOf();
    const writer = handle(topic);
    const reader = handle(topic);
    assert.equal(await reader.deadLetterCount(), 0);
    assert.deepEqual(await reader.deadLetters(10), []);
    const letters = [letterOf(0, 7, 'one'), letterOf(0, 300, 'two'), letterOf(2, 0, 'three')];
    await writer.park([...letters].reverse());
    await writer.park([]);
    for (const one of [writer, reader]) {
      assert.equal(await one.deadLetterCount(), 3);
      assert.deepEqual(await one.deadLetters(10), letters);
      assert.deepEqual(await one.deadLetters(2), letters.slice(0, 2));
      assert.deepEqual(await one.deadLetters(10, { partition: 0, offset: 7 }), letters.slice(1));
      assert.deepEqual(await one.deadLetters(10, { partition: 0, offset: 8 }), letters.slice(1));
      assert.deepEqual(await one.deadLetters(10, { partition: 1, offset: 9 }), letters.slice(2));
      assert.deepEqual(await one.deadLetters(10, { partition: 2, offset: 0 }), []);
      assert.equal(await one.isParked(0, 300), true);
      assert.equal(await one.isParked(0, 301), false);
      assert.equal(await one.isParked(2, 300), false);
    }
  });

  it('are replaced by a letter of the same position, and removed by a null', async () => {
    const topic = await topicOf();
    const letters = handle(topic);
    await letters.park([letterOf(1, 1, 'first'), letterOf(1, 2, 'kept')]);
    await letters.park([letterOf(1, 1, 'second')]);
    assert.deepEqual(await letters.deadLetters(9), [letterOf(1, 1, 'second'), letterOf(1, 2, 'kept')]);
    assert.equal(await letters.deadLetterCount(), 2);
    await kcat.produce(cluster.brokers, topic, [`${epoch}:1:1\t`], { keyDelimiter: '\t', isEmptyNull: true });
    assert.equal(await letters.isParked(1, 1), false);
    for (const one of [letters, handle(topic)]) {
      assert.deepEqual(await one.deadLetters(9), [letterOf(1, 2, 'kept')]);
      assert.equal(await one.deadLetterCount(), 1);
    }
    await letters.park([letterOf(1, 1, 'third')]);
    assert.equal(await letters.deadLetterCount(), 2);
  });

  it('belong to one epoch, and records of others between them do no harm', async () => {
    const topic = await topicOf();
    const other = handle(topic, 'f'.repeat(32));
    await other.park([letterOf(0, 1, 'of another epoch')]);
    // A compacted topic takes no record without a key.
    const lines = ['x:0:1\tv', `${epoch}:0:-1\tv`, `${epoch}:0:1e3\tv`, `${epoch}:0:5\t{"not":"ours"}`];
    await kcat.produce(cluster.brokers, topic, lines, { keyDelimiter: '\t' });
    const letters = handle(topic);
    await letters.park([letterOf(0, 9, 'ours')]);
    // What somebody else wrote under a key of ours counts, but cannot be given as an event.
    assert.equal(await letters.deadLetterCount(), 2);
    assert.deepEqual(await letters.deadLetters(9), [letterOf(0, 9, 'ours')]);
    assert.deepEqual(await other.deadLetters(9), [letterOf(0, 1, 'of another epoch')]);
  });

  it('keep every part of the event, and can be read by others', async () => {
    const topic = await topicOf();
    const letters = handle(topic);
    let offset = 0;
    const texts = fc.array(fc.string({ unit: 'binary', maxLength: 40 }), { minLength: 4, maxLength: 4 });
    const text = fc.string({ unit: 'binary', maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(
        texts,
        fc.option(text),
        fc.uint8Array({ maxLength: 60 }),
        text,
        text,
        fc.integer({ min: 1, max: 4e12 }),
        async (parts, key, body, code, reason, timeMs) => {
          offset += 1;
          const record = recordOf(recordFlags.hasTime, parts, key, Buffer.from(body));
          const letter = { partition: 3, offset, timeMs, code, reason, record };
          await letters.park([letter]);
          assert.deepEqual(await letters.deadLetters(1, { partition: 3, offset: offset - 1 }), [letter]);
        },
      ),
      { numRuns: 60 },
    );
    const body = Buffer.from('{"id":"a","n":1}');
    const record = recordOf(0, ['a', 'order', 'shop', 's'], 'k', body);
    await letters.park([
      { partition: 4, offset: 1, timeMs: 1_700_000_000_123, code: '6', reason: 'why', record },
    ]);
    const [seen] = await kcat.consume(cluster.brokers, topic, { partition: 0, offset, count: 1 });
    assert.equal(seen?.key?.toString(), `${epoch}:4:1`);
    assert.deepEqual(seen?.value, body);
    assert.equal(seen?.timestampMs, 1_700_000_000_123);
    const headers = seen?.headers.map(({ name, value }) => [name, name === 'ess' ? '' : value?.toString()]);
    assert.deepEqual(headers, [
      ['ess', ''],
      ['key', 'k'],
      ['code', '6'],
      ['reason', 'why'],
      ['time', '1700000000123'],
      ['topic', 'events'],
    ]);
  });

  it('may be many, and large', async () => {
    const topic = await topicOf();
    const many = Array.from({ length: 3000 }, (_, i) => letterOf(i % 3, i, `reason ${i}`, 400));
    const large = letterOf(9, 0, 'x'.repeat(10_000), 2 << 20);
    const writer = handle(topic);
    await writer.park([...many, large]);
    const reader = handle(topic);
    assert.equal(await reader.deadLetterCount(), 3001);
    const sorted = [...many].sort((a, b) => a.partition - b.partition || a.offset - b.offset);
    let after: { partition: number; offset: number } | undefined;
    const read: DeadLetter[] = [];
    for (;;) {
      const page = await reader.deadLetters(700, after);
      const last = page.at(-1);
      if (last === undefined) break;
      read.push(...page);
      after = last;
    }
    assert.deepEqual(read.slice(0, 3000), sorted);
    // A reason has a bound; an event has not.
    const [kept] = read.slice(3000);
    assert.ok(kept?.record.equals(large.record) === true);
    assert.ok(large.reason.startsWith(kept?.reason ?? '') && (kept?.reason.length ?? 0) > 1000);
  });

  it('are parked although the leader is killed, and asked for at the same time by many', async () => {
    const topic = await topicOf();
    const writer = handle(topic);
    const reader = handle(topic);
    await writer.park([letterOf(0, 0, 'before')]);
    const victim = await cluster.leaderOf(topic, 0);
    await cluster.node(victim).kill();
    const parked = Array.from({ length: 20 }, (_, i) => writer.park([letterOf(1, i, `while ${i}`)]));
    const asked = Array.from({ length: 20 }, () => reader.isParked(0, 0));
    await Promise.all(parked);
    for (const isParked of await Promise.all(asked)) assert.equal(isParked, true);
    assert.equal(await reader.deadLetterCount(), 21);
    await cluster.node(victim).restart();
    assert.equal((await handle(topic).deadLetters(100)).length, 21);
  });

  it('are not missed because the leader that is asked stood still and does not know that it leads no more', async () => {
    const topic = await topicOf();
    const writer = handle(topic);
    // All have spoken to the leader of before, and have not heard of another.
    const readers = Array.from({ length: 5 }, () => handle(topic));
    for (const reader of readers) assert.equal(await reader.isParked(0, 1), false);
    const leader = await cluster.leaderOf(topic, 0);
    cluster.node(leader).pause();
    try {
      await cluster.untilLeaderMoved(topic, 0, leader);
      await writer.park([letterOf(0, 1, 'while it stood still')]);
    } finally {
      cluster.node(leader).resume();
    }
    const seen = await Promise.all(readers.map((reader) => reader.isParked(0, 1)));
    assert.deepEqual(
      seen,
      readers.map(() => true),
    );
    await cluster.untilHealthy(topic);
  });

  it('begin anew when the topic is made anew or cut', async () => {
    // Only what may be deleted at all can be cut.
    const topic = await topicOf({ 'cleanup.policy': 'compact,delete', 'retention.ms': '-1' });
    const letters = handle(topic);
    await letters.park([letterOf(0, 0, 'a'), letterOf(0, 1, 'b')]);
    assert.equal(await letters.deadLetterCount(), 2);
    await cluster.deleteRecords(topic, 0, 1);
    const late = handle(topic);
    assert.deepEqual(await late.deadLetters(9), [letterOf(0, 1, 'b')]);
    await cluster.deleteTopic(topic);
    const gone = handle(topic);
    await assert.rejects(gone.deadLetterCount(), (error) => {
      return error instanceof EssError && error.code === 'log_unavailable';
    });
    await make(topic);
    await letters.park([letterOf(0, 3, 'c')]);
    assert.deepEqual(await handle(topic).deadLetters(9), [letterOf(0, 3, 'c')]);
  });

  it('are refused once closed, and only whole records are taken', async () => {
    const letters = handle(await topicOf());
    const broken = { ...letterOf(0, 0, 'cut'), record: Buffer.alloc(10) };
    await assert.rejects(letters.park([broken]), { code: 'internal' });
    const two = { ...letterOf(0, 0, 'two'), record: packed(['a', 'b'], 1) };
    await assert.rejects(letters.park([two]), { code: 'internal' });
    await letters.close();
    await assert.rejects(letters.deadLetterCount(), { code: 'log_unavailable' });
    await assert.rejects(letters.park([letterOf(0, 0, 'late')]), { code: 'outcome_unknown' });
  });
});
