// GET /events/{id} on rows in chDB.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { recordFlags } from '../../../src/event/record.ts';
import { bodyText, type EventJson, Fixture, noon } from './fixture.ts';

interface Stage {
  readonly stage: string;
  readonly time: string | null;
  readonly place: string;
}

describe('an event by its id', () => {
  let fixture: Fixture;
  before(async () => {
    fixture = await Fixture.open();
  });
  after(async () => {
    await fixture.close();
  });

  test('is answered with its identity, its times, its place in the log and its JSON', async () => {
    await fixture.insert([
      {
        id: 'plain',
        source: 'urn:s',
        type: 'flight',
        timeMs: noon + 5,
        ingestMs: noon + 10,
        storeMs: noon + 77,
        partition: 3,
        offset: 42,
        body: '{"id":"plain","n":1}',
      },
    ]);
    const { journey, ...event } = await fixture.json<EventJson & { readonly journey: readonly Stage[] }>(
      '/events/plain',
    );
    assert.deepEqual(event, {
      id: 'plain',
      source: 'urn:s',
      type: 'flight',
      time: '2026-11-01T12:00:00.005Z',
      event: { id: 'plain', n: 1 },
      ingest_time: '2026-11-01T12:00:00.010Z',
      store_time: '2026-11-01T12:00:00.077Z',
      partition: 3,
      offset: 42,
    });
    const [stored] = journey.slice(2);
    assert.deepEqual(journey, [
      { stage: 'received', time: '2026-11-01T12:00:00.010Z', place: 'by ESS, over HTTP' },
      {
        stage: 'durable',
        time: '2026-11-01T12:00:00.060Z',
        place: 'partition 3, offset 42 of log test',
      },
      { stage: 'stored', time: '2026-11-01T12:00:00.077Z', place: stored?.place },
    ]);
    assert.match(stored?.place ?? '', /^shard 0, part 202611_\d+_\d+_\d+$/);
  });

  test('tells of a foreign record where it came from, and of a row of before that the time in the log is not known', async () => {
    await fixture.insert([{ id: 'foreign', flags: recordFlags.isForeign, logMs: 0 }]);
    const { journey } = await fixture.json<{ readonly journey: readonly Stage[] }>('/events/foreign');
    assert.equal(journey[0]?.place, 'by the topic, from another producer');
    assert.equal(journey[1]?.time, null);
  });

  test('keeps the JSON byte for byte', async () => {
    const body =
      '{ "id" : "bytes",\n "n": 1.500e+2, "big": 123456789012345678901234567890, "u": "\\u00e9\\ud800 é" }';
    await fixture.insert([{ id: 'bytes', body }]);
    assert.ok(bodyText(await fixture.read('/events/bytes')).includes(`"event":${body},"ingest_time"`));
  });

  test('keeps offsets beyond what a JSON reader of 32 bits would take', async () => {
    await fixture.insert([{ id: 'far', offset: 9_007_199_254_740_991 }]);
    assert.equal((await fixture.json<EventJson>('/events/far')).offset, 9_007_199_254_740_991);
  });

  test('is found whatever characters the id has', async () => {
    const ids = [
      'a/b',
      'a b',
      'a+b',
      "it's",
      '"quoted"',
      '\\back\\slash',
      '100%',
      '%41',
      'ünï/ködé 😀',
      '?x=1&y=2#z',
      'line\nfeed\ttab\rreturn',
      'nul\0byte',
      '{p0:String}',
      "') OR 1=1 --",
      '..',
      'x'.repeat(256),
    ];
    await fixture.insert(ids.map((id) => ({ id })));
    for (const id of ids) {
      const answer = await fixture.json<EventJson>(`/events/${encodeURIComponent(id)}`);
      assert.equal(answer.id, id);
      assert.deepEqual(answer.event, { id });
    }
    // Slashes need no encoding in a path that is all id.
    assert.equal((await fixture.json<EventJson>('/events/a/b')).id, 'a/b');
  });

  test('can be called like a route if a letter is percent-encoded', async () => {
    await fixture.insert([{ id: 'statistics' }]);
    assert.equal((await fixture.json<EventJson>('/events/%73tatistics')).id, 'statistics');
  });

  test('that does not exist is not found', async () => {
    const problem = await fixture.problem('/events/nobody');
    assert.deepEqual([problem.status, problem.code], [404, 'not_found']);
    await fixture.insert([{ id: 'of-a', source: 'a' }]);
    assert.equal((await fixture.problem('/events/of-a', 'source=b')).code, 'not_found');
    assert.equal((await fixture.problem('/event', '')).code, 'not_found');
  });

  test('in a path that is not UTF-8 is refused', async () => {
    for (const path of ['/events/%', '/events/%zz', '/events/%ff', '/events/%c3%28']) {
      const problem = await fixture.problem(path);
      assert.deepEqual([problem.status, problem.code, problem.parameter], [400, 'invalid_parameter', 'id']);
    }
  });

  test('that several sources use is asked back for, and the source chooses', async () => {
    await fixture.insert([
      { id: 'shared', source: 'b', body: '{"from":"b"}' },
      { id: 'shared', source: '', body: '{"from":""}' },
      { id: 'shared', source: 'a,"c', body: '{"from":"a"}' },
    ]);
    const problem = await fixture.problem('/events/shared');
    assert.deepEqual([problem.status, problem.code], [409, 'ambiguous_id']);
    assert.deepEqual(problem.sources, ['', 'a,"c', 'b']);
    for (const [source, from] of [
      ['', ''],
      ['a,"c', 'a'],
      ['b', 'b'],
    ] as const) {
      const answer = await fixture.json<EventJson>('/events/shared', `source=${encodeURIComponent(source)}`);
      assert.deepEqual([answer.source, answer.event], [source, { from }]);
    }
  });

  test('with several physical copies is the first copy, whatever the order of their inserts', async () => {
    await fixture.insert([{ id: 'copies', version: 8n, body: '{"copy":2}' }]);
    await fixture.insert([{ id: 'copies', version: 18_446_744_073_709_551_615n, body: '{"copy":1}' }]);
    await fixture.insert([{ id: 'copies', version: 7n, timeMs: noon + 1000, body: '{"copy":3}' }]);
    // In another hour and another month as well.
    await fixture.insert([
      {
        id: 'copies',
        version: 9n,
        timeMs: noon + 7_200_000,
        ingestMs: noon + 40 * 86_400_000,
        body: '{"copy":4}',
      },
    ]);
    assert.deepEqual((await fixture.json<EventJson>('/events/copies')).event, { copy: 1 });
  });

  test('may be from any time between 1900 and 2299', async () => {
    const times = ['1900-01-01T00:00:00.000Z', '1969-12-31T23:59:59.999Z', '2299-12-31T23:59:59.999Z'];
    await fixture.insert(times.map((time) => ({ id: time, timeMs: Date.parse(time) })));
    for (const time of times)
      assert.equal((await fixture.json<EventJson>(`/events/${encodeURIComponent(time)}`)).time, time);
  });

  test('of foreign origin that is not JSON is given as a JSON string', async () => {
    const isForeign = recordFlags.isForeign;
    await fixture.insert([
      { id: 'e:0:1', flags: isForeign, body: 'not "JSON"\n' },
      { id: 'e:0:2', flags: isForeign, body: '[1, 2]' },
    ]);
    assert.equal((await fixture.json<EventJson>('/events/e:0:1')).event, 'not "JSON"\n');
    assert.deepEqual((await fixture.json<EventJson>('/events/e:0:2')).event, [1, 2]);
  });

  test('refuses parameters that it does not have', async () => {
    for (const [text, parameter] of [
      ['limit=1', 'limit'],
      ['source=a&source=b', 'source'],
      ['source=%ff', 'source'],
      ['%66oo=1', 'foo'],
    ] as const) {
      const problem = await fixture.problem('/events/plain', text);
      assert.deepEqual(
        [problem.status, problem.code, problem.parameter],
        [400, 'invalid_parameter', parameter],
      );
    }
  });
});
