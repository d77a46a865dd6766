// What POST /events takes, and what its 200 says and means.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import zlib from 'node:zlib';
import { partitionOf } from '../../src/event/partition.ts';
import { EssProcess } from '../support/ess_process.ts';
import { atRest, type BatchAnswer, jsonOf, problemOf, type SingleAnswer } from './answers.ts';

const partitions = 4;
const uuidForm = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe('POST /events', () => {
  let ess: EssProcess;
  /** Events that the service said it took. */
  let taken = 0;

  before(async () => {
    ess = await EssProcess.start({ flags: { partitions, 'batch-events-max': 5000 } });
  });
  after(() => ess.dispose());

  async function single(body: string | Uint8Array, query = '', headers = {}): Promise<SingleAnswer> {
    const answer = await jsonOf<SingleAnswer>(ess.post(body, query, 'application/json', headers));
    taken += 1;
    return answer;
  }

  async function batch(body: string, contentType = 'application/json', query = ''): Promise<BatchAnswer> {
    const answer = await jsonOf<BatchAnswer>(ess.post(body, query, contentType));
    taken += answer.accepted;
    return answer;
  }

  test('one event is answered with its id, the promise, its partition and its offset, with or without a final slash', async () => {
    for (const path of ['/events', '/events/']) {
      const response = await fetch(`${ess.url}${path}`, {
        method: 'POST',
        body: `{"id":"slash${path.length}"}`,
        headers: { 'content-type': 'application/json' },
      });
      const answer = await jsonOf<SingleAnswer>(response);
      taken += 1;
      assert.deepEqual(Object.keys(answer), ['id', 'ack', 'partition', 'offset']);
      assert.deepEqual([answer.id, answer.ack], [`slash${path.length}`, 'log']);
      assert.equal(answer.partition, partitionOf(answer.id, partitions));
      assert.ok(Number.isInteger(answer.offset));
    }
  });

  test("the partition is that of the key, or of the id, by Kafka's rule, and the offsets of a partition have no gap", async () => {
    const next = new Map<number, number>();
    for (let i = 0; i < 100; i += 1) {
      const event =
        i % 2 === 0 ? { id: `partition-${i}` } : { id: `partition-${i}`, key: `key-\u00e9-${i % 7}` };
      const { partition, offset } = await single(JSON.stringify(event));
      assert.equal(partition, partitionOf(event.key ?? event.id, partitions));
      assert.equal(offset, next.get(partition) ?? offset);
      next.set(partition, (offset ?? 0) + 1);
    }
    assert.equal(next.size, partitions);
  });

  test('an event without an id gets one, which is returned and found again', async () => {
    const first = await single('{}', '?ack=store');
    const second = await single('{"id":null}', '?ack=store');
    assert.match(first.id, uuidForm);
    assert.match(second.id, uuidForm);
    assert.notEqual(first.id, second.id);
    const found = await jsonOf<{ readonly id: string; readonly event: unknown }>(
      fetch(`${ess.url}/events/${first.id}`),
    );
    assert.deepEqual([found.id, found.event], [first.id, {}]);
  });

  test('ids that need escaping come back as they were', async () => {
    for (const id of ['"', '\\', '\u0000', '\n', '\u2028', '\u007f', '\u00e9\u{1f600}', '</script>', ' ']) {
      assert.equal((await single(JSON.stringify({ id }))).id, id);
    }
  });

  test('white space around an event is no part of it', async () => {
    const { id } = await single(' \r\n\t{"id":"white"} \n', '?ack=store');
    assert.match(await (await fetch(`${ess.url}/events/${id}`)).text(), /"event":\{"id":"white"\}[,}]/);
  });

  test('what ack=store answered 200 is seen by the next read, byte for byte as it was received', async () => {
    for (let i = 0; i < 5; i += 1) {
      const event = `{ "id":"read-${i}",  "n":1.50, "big":12345678901234567890, "x":"\\u0061", "time":${i} }`;
      const answer = await single(event, '?ack=store');
      assert.equal(answer.ack, 'store');
      const text = await (await fetch(`${ess.url}/events/read-${i}`)).text();
      assert.ok(text.includes(`"event":${event}`), text);
    }
  });

  test('each ack names its stage, and only ack=memory does not know the offset', async () => {
    for (const ack of ['memory', 'log', 'store']) {
      const answer = await single(`{"id":"ack-${ack}"}`, `?ack=${ack}`);
      assert.equal(answer.ack, ack);
      assert.equal(answer.partition, partitionOf(`ack-${ack}`, partitions));
      assert.equal(answer.offset === null, ack === 'memory');
    }
  });

  test("the load test's events are taken as they are", async () => {
    const { id } = await single(
      '{"id":"event-17-4","ingest_time":"2025-05-01T10:20:30.123456","data":{"a":[1]}}',
    );
    assert.equal(id, 'event-17-4');
  });

  test('an array is a batch, whatever its size', async () => {
    assert.deepEqual(await batch('[{"id":"a1"},{"id":"a2"}]'), { accepted: 2, rejected: 0, errors: [] });
    assert.deepEqual(await batch(' [ {"id":"a3"} ] '), { accepted: 1, rejected: 0, errors: [] });
  });

  test('NDJSON is a batch, whatever ends its lines', async () => {
    const type = 'application/x-ndjson';
    for (const text of [
      '{"id":"n1"}\n{"id":"n2"}\n',
      '{"id":"n3"}\n{"id":"n4"}',
      '{"id":"n5"}\r\n{"id":"n6"}\r\n',
      '\n\n{"id":"n7"}\n\r\n  \t\n {"id":"n8"} \n\n',
    ]) {
      assert.deepEqual(
        await batch(text, type),
        { accepted: 2, rejected: 0, errors: [] },
        JSON.stringify(text),
      );
    }
    assert.deepEqual(await batch('{"id":"n9"}', type), { accepted: 1, rejected: 0, errors: [] });
  });

  test('a batch without any event accepts none', async () => {
    const nothing = { accepted: 0, rejected: 0, errors: [] };
    assert.deepEqual(await jsonOf(ess.post('[]'), 422), nothing);
    assert.deepEqual(await jsonOf(ess.post('\n \n', '', 'application/x-ndjson'), 422), nothing);
    assert.deepEqual(await jsonOf(ess.post('', '', 'application/x-ndjson'), 422), nothing);
  });

  test('the media type is told apart from its case and its parameters', async () => {
    for (const type of [
      'application/json; charset=utf-8',
      'application/json;charset=UTF-8',
      'Application/JSON',
      'application/json ; profile="a;b"',
    ]) {
      const answer = await jsonOf<SingleAnswer>(ess.post('{"id":"type"}', '', type));
      taken += 1;
      assert.equal(answer.id, 'type', type);
    }
    for (const type of ['APPLICATION/X-NDJSON', 'application/x-ndjson; charset=utf-8']) {
      assert.equal((await batch('{"id":"t1"}\n{"id":"t2"}', type)).accepted, 2, type);
    }
  });

  test('every encoding that this Node.js has is understood, and zstd is refused politely where it has not', async () => {
    const event = Buffer.from(JSON.stringify({ id: 'zipped', x: 'x'.repeat(10_000) }));
    const bodies: Readonly<Record<string, readonly Buffer[]>> = {
      gzip: [
        zlib.gzipSync(event),
        Buffer.concat([zlib.gzipSync(event.subarray(0, 9)), zlib.gzipSync(event.subarray(9))]),
      ],
      br: [zlib.brotliCompressSync(event)],
      deflate: [
        zlib.deflateSync(event),
        zlib.deflateRawSync(event),
        zlib.deflateRawSync(event, { level: 0 }),
      ],
      GZip: [zlib.gzipSync(event)],
      identity: [event],
    };
    for (const [encoding, forms] of Object.entries(bodies)) {
      for (const body of forms) {
        const { id } = await single(body, '', { 'content-encoding': encoding });
        assert.equal(id, 'zipped', encoding);
      }
    }
    const { zstdCompressSync } = zlib as { readonly zstdCompressSync?: (body: Buffer) => Buffer };
    if (zstdCompressSync !== undefined) {
      assert.equal((await single(zstdCompressSync(event), '', { 'content-encoding': 'zstd' })).id, 'zipped');
    } else {
      const response = await ess.post(event, '', 'application/json', { 'content-encoding': 'zstd' });
      assert.equal(response.headers.get('accept-encoding'), 'identity, gzip, br, deflate');
      await problemOf(response, 'unsupported_media_type');
    }
  });

  test('a compressed batch in NDJSON is a batch', async () => {
    const body = zlib.gzipSync('{"id":"z1"}\n{"id":"z2"}\n');
    const answer = await jsonOf<BatchAnswer>(
      ess.post(body, '', 'application/x-ndjson', { 'content-encoding': 'gzip' }),
    );
    taken += answer.accepted;
    assert.equal(answer.accepted, 2);
  });

  test('good events of a batch are stored whatever the bad ones are, and each bad one is named', async () => {
    const elements = [
      '{"id":"good-0"}',
      '{bad',
      '{"id":"good-2","key":"k"}',
      '{"id":5}',
      '1',
      '{"id":"x","id":"y"}',
      `{"id":"${'x'.repeat(257)}"}`,
      '{"id":"good-7"}',
      `{"x":${'['.repeat(100)}${']'.repeat(100)}}`,
      `{"x":"${'x'.repeat(1_000_000)}"}`,
    ];
    const codes = [
      [1, 'malformed_json'],
      [3, 'invalid_event'],
      [4, 'invalid_event'],
      [5, 'invalid_event'],
      [6, 'invalid_event'],
      [8, 'too_large'],
      [9, 'too_large'],
    ];
    // In an array the broken element must not hide where the next one begins.
    const inArray = elements.map((element) => (element === '{bad' ? '{bad}' : element));
    for (const [body, type] of [
      [elements.join('\n'), 'application/x-ndjson'],
      [`[${inArray.join(',')}]`, 'application/json'],
    ] as const) {
      const answer = await batch(body, type, '?ids=1&ack=store');
      assert.deepEqual([answer.accepted, answer.rejected], [3, 7]);
      assert.deepEqual(
        answer.errors.map(({ index, code }) => [index, code]),
        codes,
      );
      for (const error of answer.errors) assert.equal(typeof error.message, 'string');
      assert.deepEqual(answer.ids, ['good-0', null, 'good-2', null, null, null, null, 'good-7', null, null]);
    }
    for (const id of ['good-0', 'good-2', 'good-7']) {
      assert.equal((await fetch(`${ess.url}/events/${id}`)).status, 200);
    }
  });

  test('a batch of bad events only is answered 422, and lists them', async () => {
    const answer = await jsonOf<BatchAnswer>(ess.post('[1,2]', '?ids=1'), 422);
    assert.deepEqual(
      answer.errors.map(({ index, code }) => [index, code]),
      [
        [0, 'invalid_event'],
        [1, 'invalid_event'],
      ],
    );
    assert.deepEqual([answer.accepted, answer.rejected], [0, 2]);
  });

  test('ids=1 gives made ids too, ids=0 and no parameter give none', async () => {
    const { ids = [] } = await batch('[{},{"id":"given"},{}]', 'application/json', '?ids=1');
    assert.equal(ids.length, 3);
    assert.equal(ids[1], 'given');
    assert.match(ids[0] ?? '', uuidForm);
    assert.match(ids[2] ?? '', uuidForm);
    for (const query of ['', '?ids=0', '?ack=log']) {
      assert.equal((await batch('[{},{}]', 'application/json', query)).ids, undefined);
    }
  });

  test('of very many bad events a thousand are listed and the others counted', async () => {
    const answer = await jsonOf<BatchAnswer>(ess.post(`[${'1,'.repeat(4998)}{"id":"last"},2]`));
    taken += 1;
    assert.deepEqual([answer.accepted, answer.rejected], [1, 4999]);
    assert.equal(answer.errors.length, 1000);
    assert.equal(answer.errors_omitted, 3999);
  });

  test('a large batch with its ids comes back whole', async () => {
    const events = Array.from({ length: 5000 }, (_, i) => ({ id: `large-${i}-${'\u00e9'.repeat(100)}` }));
    const answer = await batch(JSON.stringify(events), 'application/json', '?ids=1');
    assert.deepEqual(
      answer.ids,
      events.map(({ id }) => id),
    );
  });

  test('everything that was answered 200 is in the store in the end, once', async () => {
    const { conservation, counters } = await atRest(ess);
    assert.equal(conservation.accepted, taken);
    assert.equal(counters['events_accepted'], taken);
  });
});
