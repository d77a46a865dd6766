// Requests and answers: the same bytes as kafkajs's own encoders where it has them, answers as a real broker gave them
// (fixtures/README.md), and odd answers as errors.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { EssError } from '../../../src/errors.ts';
import type { WireCall } from '../../../src/log/kafka/wire/call.ts';
import { describeQuorumCall } from '../../../src/log/kafka/wire/describe_quorum.ts';
import { kafkaError, kafkaErrors } from '../../../src/log/kafka/wire/errors.ts';
import { fetchCall } from '../../../src/log/kafka/wire/fetch.ts';
import { listOffsetsCall } from '../../../src/log/kafka/wire/list_offsets.ts';
import { logDirsCall } from '../../../src/log/kafka/wire/log_dirs.ts';
import { metadataCall, noTopicId } from '../../../src/log/kafka/wire/metadata.ts';
import { produceCall, produceOutcome } from '../../../src/log/kafka/wire/produce.ts';

interface KafkajsEncoder {
  readonly buffer: Buffer;
  writeInt8(value: number): KafkajsEncoder;
  writeInt16(value: number): KafkajsEncoder;
  writeInt32(value: number): KafkajsEncoder;
  writeInt64(value: number | string): KafkajsEncoder;
  writeString(value: string | null): KafkajsEncoder;
  writeBytes(value: Buffer | null): KafkajsEncoder;
}
interface KafkajsRequest {
  readonly apiKey: number;
  readonly apiVersion: number;
  readonly apiName: string;
  encode(): Promise<KafkajsEncoder>;
}
interface KafkajsConnection {
  connect(): Promise<unknown>;
  disconnect(): Promise<unknown>;
  send<T>(call: WireCall<T>): Promise<T>;
}
const require = createRequire(import.meta.url);
const Encoder: new () => KafkajsEncoder = require('kafkajs/src/protocol/encoder');
const kafkajsFetch: (
  options: object,
) => KafkajsRequest = require('kafkajs/src/protocol/requests/fetch/v11/request');
const Connection: new (options: object) => KafkajsConnection = require('kafkajs/src/network/connection');
const socketFactory: () => unknown = require('kafkajs/src/network/socketFactory');

const topic = 'a topic';
const topicId = '0123456789abcdef0123456789abcdef';
const fetchRequest = {
  topic,
  topicId,
  maxWaitMs: 500,
  minBytes: 1,
  maxBytes: 1_000_000,
  isCommittedOnly: true,
  partitions: [
    { partition: 3, offset: 2 ** 40, maxBytes: 1000, leaderEpoch: 7 },
    { partition: 0, offset: 0, maxBytes: 2000, leaderEpoch: -1 },
  ],
} as const;

function fixture(name: string): Buffer {
  return readFileSync(`test/log/kafka/fixtures/${name}.bin`);
}

/** What `Connection#send` would give for this answer. */
async function answerTo<T>(call: WireCall<T>, raw: Buffer): Promise<T> {
  return call.response.parse(await call.response.decode(raw));
}

async function bodyOf<T>(call: WireCall<T>): Promise<Buffer> {
  return (await call.request.encode()).buffer;
}

function assertSameApi<T>(call: WireCall<T>, other: KafkajsRequest): void {
  assert.equal(call.request.apiKey, other.apiKey);
  assert.equal(call.request.apiVersion, other.apiVersion);
  assert.equal(call.request.apiName, other.apiName);
}

const isInternal = (error: unknown): boolean => error instanceof EssError && error.code === 'internal';

/** Cuts the answer everywhere, adds to it and changes each byte: what is not understood is an EssError. */
async function assertOddAnswersAreErrors<T>(call: WireCall<T>, raw: Buffer): Promise<void> {
  for (let bytes = 0; bytes < raw.length; bytes += 1)
    await assert.rejects(answerTo(call, raw.subarray(0, bytes)), isInternal);
  await assert.rejects(answerTo(call, Buffer.concat([raw, Buffer.alloc(1)])), isInternal);
  for (let at = 0; at < raw.length; at += 1) {
    for (const byte of [0, 1, 0x7f, 0x80, 0xff]) {
      const copy = Buffer.from(raw);
      copy[at] = byte;
      await answerTo(call, copy).catch((error: unknown) => assert.ok(isInternal(error)));
    }
  }
}

describe('Produce', () => {
  const call = produceCall({
    topic,
    timeoutMs: 4000,
    batches: [{ partition: 2, records: Buffer.from('batch') }],
  });

  test('has the fields of version 7', async () => {
    assert.equal(call.request.apiKey, 0);
    assert.equal(call.request.apiVersion, 7);
    const expected = new Encoder()
      .writeString(null)
      .writeInt16(-1)
      .writeInt32(4000)
      .writeInt32(1)
      .writeString(topic);
    expected.writeInt32(1).writeInt32(2).writeBytes(Buffer.from('batch'));
    assert.deepEqual(await bodyOf(call), expected.buffer);
  });

  test('has copied the batches, so that their buffers may be used again', async () => {
    const records = Buffer.alloc(3000, 1);
    const copied = produceCall({
      topic,
      timeoutMs: 1,
      batches: [0, 1].map((partition) => ({ partition, records })),
    });
    const before = Buffer.from(await bodyOf(copied));
    records.fill(2);
    assert.deepEqual(await bodyOf(copied), before);
  });

  test('gives the answer of each partition', async () => {
    const answers = await answerTo(call, fixture('produce_answer'));
    answers.sort((left, right) => left.partition - right.partition);
    assert.deepEqual(answers, [
      { partition: 0, errorCode: 0, baseOffset: 150 },
      { partition: 1, errorCode: 0, baseOffset: 151 },
      { partition: 7, errorCode: kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code, baseOffset: -1 },
    ]);
    assert.deepEqual(answers.map(produceOutcome), ['written', 'written', 'retry']);
    await assertOddAnswersAreErrors(call, fixture('produce_answer'));
  });

  test('proves that nothing was written only if no offset was given', () => {
    const outcome = (kind: { readonly code: number }, baseOffset: number): string =>
      produceOutcome({ partition: 0, errorCode: kind.code, baseOffset });
    assert.equal(outcome(kafkaErrors.NOT_LEADER_OR_FOLLOWER, -1), 'retry');
    assert.equal(outcome(kafkaErrors.NOT_LEADER_OR_FOLLOWER, 12), 'unknown');
    assert.equal(outcome(kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION, 0), 'unknown');
    assert.equal(outcome(kafkaErrors.NOT_ENOUGH_REPLICAS, -1), 'retry');
    assert.equal(outcome(kafkaErrors.NOT_ENOUGH_REPLICAS_AFTER_APPEND, -1), 'unknown');
    assert.equal(outcome(kafkaErrors.REQUEST_TIMED_OUT, -1), 'unknown');
    assert.equal(outcome(kafkaErrors.MESSAGE_TOO_LARGE, -1), 'refused');
    assert.equal(outcome(kafkaErrors.NONE, 0), 'written');
    assert.equal(outcome(kafkaErrors.NONE, -1), 'unknown');
    assert.equal(outcome({ code: 9999 }, -1), 'unknown');
  });
});

describe("Fetch by the topic's name", () => {
  const call = fetchCall({ ...fetchRequest, topicId: noTopicId });

  test('is what a broker is asked that does not take ids', async () => {
    const older = fetchCall(fetchRequest).older?.();
    assert.ok(older !== undefined);
    assert.equal(older.request.apiVersion, call.request.apiVersion);
    assert.deepEqual(await bodyOf(older), await bodyOf(call));
    assert.equal(call.older, undefined);
  });

  test('is the request that kafkajs makes', async () => {
    const other = kafkajsFetch({
      ...{ replicaId: -1, maxWaitTime: 500, minBytes: 1, maxBytes: 1_000_000, isolationLevel: 1 },
      topics: [
        {
          topic,
          partitions: [
            { partition: 3, currentLeaderEpoch: 7, fetchOffset: 2 ** 40, maxBytes: 1000 },
            { partition: 0, fetchOffset: 0, maxBytes: 2000 },
          ],
        },
      ],
    });
    assertSameApi(call, other);
    assert.deepEqual(await bodyOf(call), (await other.encode()).buffer);
  });

  test('gives each partition with its records, where it ends and what was aborted', async () => {
    const answer = new Encoder()
      .writeInt32(250)
      .writeInt16(0)
      .writeInt32(0)
      .writeInt32(1)
      .writeString(topic)
      .writeInt32(2);
    answer
      .writeInt32(3)
      .writeInt16(0)
      .writeInt64(2 ** 41)
      .writeInt64(2 ** 40)
      .writeInt64(5)
      .writeInt32(1);
    answer.writeInt64('9223372036854775807').writeInt64(77).writeInt32(-1).writeBytes(Buffer.from('batches'));
    answer
      .writeInt32(0)
      .writeInt16(1)
      .writeInt64(-1)
      .writeInt64(-1)
      .writeInt64(-1)
      .writeInt32(-1)
      .writeInt32(-1)
      .writeBytes(null);
    const raw = answer.buffer;
    assert.deepEqual(await answerTo(call, raw), {
      errorCode: 0,
      partitions: [
        {
          ...{
            partition: 3,
            errorCode: 0,
            highWatermark: 2 ** 41,
            lastStableOffset: 2 ** 40,
            logStartOffset: 5,
          },
          aborted: [{ producerId: 2n ** 63n - 1n, firstOffset: 77 }],
          records: Buffer.from('batches'),
        },
        {
          ...{ partition: 0, errorCode: 1, highWatermark: -1, lastStableOffset: -1, logStartOffset: -1 },
          aborted: [],
          records: Buffer.alloc(0),
        },
      ],
    });
    assert.equal((await call.response.decode(raw)).clientSideThrottleTime, 250);
    await assertOddAnswersAreErrors(call, raw);
  });

  test('refuses an offset beyond what a number can hold', async () => {
    const answer = new Encoder()
      .writeInt32(0)
      .writeInt16(0)
      .writeInt32(0)
      .writeInt32(1)
      .writeString(topic)
      .writeInt32(1);
    answer
      .writeInt32(0)
      .writeInt16(0)
      .writeInt64('9223372036854775807')
      .writeInt64(0)
      .writeInt64(0)
      .writeInt32(0);
    answer.writeInt32(-1).writeBytes(null);
    await assert.rejects(answerTo(call, answer.buffer), isInternal);
  });
});

describe("Fetch by the topic's id", () => {
  const call = fetchCall(fetchRequest);

  test('has the fields of version 13', async () => {
    assert.equal(call.request.apiKey, 1);
    assert.equal(call.request.apiVersion, 13);
    const none = 'ffffffff ffffffffffffffff';
    const expected = `
      00 ffffffff 000001f4 00000001 000f4240 01 00000000 ffffffff
      02 ${topicId} 03
      00000003 00000007 0000010000000000 ${none} 000003e8 00
      00000000 ffffffff 0000000000000000 ${none} 000007d0 00
      00 01 01 00`;
    assert.equal((await bodyOf(call)).toString('hex'), expected.replaceAll(/\s/g, ''));
    assert.throws(() => fetchCall({ ...fetchRequest, topicId: 'abc' }), isInternal);
  });

  test('gives each partition with its records, where it ends and what was aborted, past fields of later brokers', async () => {
    // The first partition: two tagged fields; the second: an error, null for the aborted ones and the records.
    const raw = Buffer.from(
      `00 000000fa 0000 00000000
       02 ${topicId} 03
       00000003 0000 0000020000000000 0000010000000000 0000000000000005
         02 7fffffffffffffff 000000000000004d 00 ffffffff 08 62617463686573 02 00 01 aa 01 02 bbbb
       00000000 0067 ffffffffffffffff ffffffffffffffff ffffffffffffffff 00 ffffffff 00 00
       00 00`.replaceAll(/\s/g, ''),
      'hex',
    );
    const nothing = { highWatermark: -1, lastStableOffset: -1, logStartOffset: -1, aborted: [] };
    assert.deepEqual(await answerTo(call, raw), {
      errorCode: 0,
      partitions: [
        {
          ...{ partition: 3, errorCode: 0, highWatermark: 2 ** 41, lastStableOffset: 2 ** 40 },
          logStartOffset: 5,
          aborted: [{ producerId: 2n ** 63n - 1n, firstOffset: 77 }],
          records: Buffer.from('batches'),
        },
        {
          partition: 0,
          errorCode: kafkaErrors.INCONSISTENT_TOPIC_ID.code,
          ...nothing,
          records: Buffer.alloc(0),
        },
      ],
    });
    assert.equal((await call.response.decode(raw)).clientSideThrottleTime, 250);
    await assertOddAnswersAreErrors(call, raw);
  });

  for (const version of ['3.7.0', '4.1.0']) {
    test(`gives what Kafka ${version} answered`, async () => {
      const raw = fixture(`fetch_by_id_answer_${version}`);
      const { errorCode, partitions } = await answerTo(call, raw);
      assert.equal(errorCode, 0);
      const [found, absent] = [...partitions].sort((left, right) => left.partition - right.partition);
      assert.ok(found !== undefined && absent !== undefined);
      assert.deepEqual([found.logStartOffset, found.lastStableOffset, found.highWatermark], [0, 5, 5]);
      assert.deepEqual(
        found.aborted.map(({ firstOffset }) => firstOffset),
        [0],
      );
      assert.ok(found.records.length > 0);
      assert.equal(absent.partition, 7);
      assert.equal(absent.errorCode, kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code);
      assert.equal(absent.records.length, 0);
      await assertOddAnswersAreErrors(call, raw);
    });
  }
});

describe('ListOffsets', () => {
  const partitions = [
    { partition: 0, leaderEpoch: 3 },
    { partition: 5, leaderEpoch: -1 },
  ];
  const call = listOffsetsCall({ topic, at: 'latest', partitions });

  test('has the fields of version 4', async () => {
    assert.equal(call.request.apiKey, 2);
    assert.equal(call.request.apiVersion, 4);
    for (const [at, timestamp] of [
      ['earliest', -2],
      ['latest', -1],
      [1_764_000_000_123, 1_764_000_000_123],
    ] as const) {
      const expected = new Encoder()
        .writeInt32(-1)
        .writeInt8(1)
        .writeInt32(1)
        .writeString(topic)
        .writeInt32(2);
      expected.writeInt32(0).writeInt32(3).writeInt64(timestamp);
      expected.writeInt32(5).writeInt32(-1).writeInt64(timestamp);
      assert.deepEqual(await bodyOf(listOffsetsCall({ topic, at, partitions })), expected.buffer);
    }
  });

  test('gives the offset or the error of each partition', async () => {
    const answers = await answerTo(call, fixture('list_offsets_answer'));
    answers.sort((left, right) => left.partition - right.partition);
    assert.deepEqual(answers, [
      { partition: 0, errorCode: 0, offset: 3 },
      { partition: 5, errorCode: kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code, offset: -1 },
    ]);
    await assertOddAnswersAreErrors(call, fixture('list_offsets_answer'));
  });
});

describe('Metadata', () => {
  test('has the fields of version 10 and never creates a topic', async () => {
    const { request } = metadataCall(['ab']);
    assert.equal(request.apiKey, 3);
    assert.equal(request.apiVersion, 10);
    const zeroUuid = '00'.repeat(16);
    assert.equal(
      (await request.encode()).buffer.toString('hex'),
      `00 02 ${zeroUuid} 03 6162 00 00 00 00 00`.replaceAll(' ', ''),
    );
    assert.equal((await metadataCall([]).request.encode()).buffer.toString('hex'), '000100000000');
  });

  test('gives the brokers, and the topics with their ids', async () => {
    const call = metadataCall([]);
    const partition = { errorCode: 0, leader: 1, leaderEpoch: 0, replicas: [1], inSync: [1], offline: [] };
    const found = await answerTo(call, fixture('metadata_answer'));
    assert.deepEqual(found, {
      brokers: [{ nodeId: 1, host: '127.0.0.1', port: found.brokers[0]?.port, rack: null }],
      controllerId: 1,
      clusterId: 'MkU3OEVBNTcwNTJENDM2Qk',
      topics: [
        {
          name: 'kcat_none',
          errorCode: 0,
          topicId: found.topics[0]?.topicId,
          partitions: [{ partition: 0, ...partition }],
        },
        {
          ...{ name: 'two_parts', errorCode: 0, topicId: found.topics[1]?.topicId },
          partitions: [0, 1].map((number) => ({ partition: number, ...partition })),
        },
        {
          ...{
            name: 'nope',
            errorCode: kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code,
            topicId: '0'.repeat(32),
          },
          partitions: [],
        },
      ],
    });
    for (const { topicId } of found.topics) assert.match(topicId, /^[0-9a-f]{32}$/);
    assert.notEqual(found.topics[0]?.topicId, found.topics[1]?.topicId);
    await assertOddAnswersAreErrors(call, fixture('metadata_answer'));
  });

  test('passes over fields that a later broker may add', async () => {
    const raw = Buffer.from(
      // header tags: tag 9 of 2 bytes; throttle 5; no brokers; no cluster id; controller 2; no topics; operations; tag 1
      '01 09 02 aabb 00000005 01 00 00000002 01 80000000 01 01 03 010203'.replaceAll(' ', ''),
      'hex',
    );
    const call = metadataCall([]);
    assert.deepEqual(await answerTo(call, raw), {
      brokers: [],
      controllerId: 2,
      clusterId: null,
      topics: [],
    });
    assert.equal((await call.response.decode(raw)).clientSideThrottleTime, 5);
  });
});

test('no answer of any bytes is a crash or a hang', async () => {
  const calls: readonly WireCall<unknown>[] = [
    produceCall({ topic, timeoutMs: 1, batches: [] }),
    fetchCall(fetchRequest),
    fetchCall({ ...fetchRequest, topicId: noTopicId }),
    listOffsetsCall({ topic, at: 'latest', partitions: [] }),
    metadataCall([]),
    describeQuorumCall(),
    logDirsCall(topic, [0]),
  ];
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), fc.constantFrom(...calls), async (bytes, call) => {
      await answerTo(call, Buffer.from(bytes)).catch((error: unknown) => assert.ok(isInternal(error)));
    }),
    { numRuns: 1000 },
  );
});

test('an error code that is not in the table has a name and proves nothing', () => {
  assert.equal(kafkaError(6).name, 'NOT_LEADER_OR_FOLLOWER');
  assert.deepEqual(kafkaError(4242), { name: 'KAFKA_ERROR_4242', code: 4242, produce: 'unknown' });
  const codes = Object.values(kafkaErrors).map((kind) => kind.code);
  assert.equal(new Set(codes).size, codes.length);
});

test('a connection of kafkajs sends the calls and gives their answers', async (t) => {
  const quiet = { namespace: () => quiet, debug() {}, info() {}, warn() {}, error() {} };
  const requests: Buffer[] = [];
  const sockets: Socket[] = [];
  const answers = [fixture('metadata_answer'), fixture('produce_answer')];
  const server = createServer((socket) => {
    sockets.push(socket);
    let received = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 4 && received.length >= 4 + received.readInt32BE(0)) {
        const end = 4 + received.readInt32BE(0);
        const request = received.subarray(4, end);
        received = received.subarray(end);
        requests.push(request);
        const body = answers[requests.length - 1] ?? Buffer.alloc(0);
        const head = Buffer.alloc(8);
        head.writeInt32BE(4 + body.length, 0);
        request.copy(head, 4, 4, 8); // the correlation id
        socket.write(Buffer.concat([head, body]));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address: AddressInfo | string | null = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const connection = new Connection({
    ...{
      host: '127.0.0.1',
      port: address.port,
      logger: quiet,
      socketFactory: socketFactory(),
      clientId: 'ess',
    },
    ...{ connectionTimeout: 10_000, requestTimeout: 30_000, enforceRequestTimeout: false },
  });
  await connection.connect();
  t.after(() => connection.disconnect());
  const metadata = await connection.send(metadataCall(['two_parts']));
  assert.equal(metadata.topics.length, 3);
  const records = Buffer.alloc(100_000, 7);
  const produced = await connection.send(
    produceCall({ topic, timeoutMs: 1000, batches: [{ partition: 0, records }] }),
  );
  assert.equal(produced.length, 3);
  await assert.rejects(
    connection.send(
      listOffsetsCall({ topic, at: 'latest', partitions: [{ partition: 0, leaderEpoch: -1 }] }),
    ),
    isInternal,
  );
  const [asked, sent] = requests;
  assert.ok(asked !== undefined && sent !== undefined);
  // api key, version, correlation id, client id, the header's empty tagged fields, one topic
  assert.equal(asked.subarray(0, 15).toString('hex'), '0003000a000000000003657373' + '0002');
  assert.deepEqual(sent.subarray(-records.length), records);
});
