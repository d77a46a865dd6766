// GET /events/{id} and GET /events/ over two shards of two replicas each, compared with the same reads of one store.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { msPerHour } from '../../../src/store/schema.ts';
import { type ListJson, noon, type TestRow } from './fixture.ts';
import { type Parameters, ShardsAndWhole } from './sharded_fixture.ts';

const hostile = ["'", '\\', '\n\n', '\u{1F600}', '\uffee', '\0', ',', '.', '"', '{p0:String}', ''];

describe('events of several shards', () => {
  let both: ShardsAndWhole;
  before(async () => {
    both = await ShardsAndWhole.open();
  });
  after(async () => {
    await both.close();
  });
  beforeEach(async () => {
    await both.clear();
  });

  test('find an event wherever it is, and the same one among its copies', async () => {
    const ids = Array.from({ length: 8 }, (_, i) => `e${i}`);
    await both.insert(ids.map((id) => ({ id, version: 5n, body: `{"id":"${id}",  "n":1.50}` })));
    await both.insert(
      ids.map((id) => ({ id, version: 3n, timeMs: noon + 7_200_000, body: '{"late":true}' })),
    );
    await both.insert(ids.slice(0, 4).map((id) => ({ id, source: 'other' })));
    assert.equal(new Set(ids.map((id) => both.shards.shardOf({ id }))).size, 2);
    for (const id of ids) {
      await both.same(`/events/${id}`);
      await both.same(`/events/${id}`, { source: '' });
      await both.same(`/events/${id}`, { source: 'nobody' });
    }
  });

  test('name all sources of an id that several shards have', async () => {
    await both.insert(
      Array.from({ length: 130 }, (_, i) => ({ id: 'shared', source: `${hostile[i % hostile.length]}${i}` })),
    );
    assert.match(await both.same('/events/shared'), /ambiguous_id/);
    assert.match(await both.same('/events/shared', { source: '\u{1F600}3' }), /"id":"shared"/);
  });

  test('list the same pages with the same cursors, whatever the texts are', async () => {
    const times = [Date.UTC(1901, 0), -1, 0, noon];
    const rows: TestRow[] = [];
    for (const [i, timeMs] of times.entries())
      for (const source of hostile)
        for (const id of ['x', '\u{1F600}', '\uffee', "y'"])
          rows.push({ id: `${id}${i % 2}`, source, timeMs });
    await both.insert(rows);
    await both.insert(
      rows.filter((_, i) => i % 3 === 0).map((row) => ({ ...row, version: 1n, type: 'late' })),
    );
    for (const order of ['asc', 'desc']) {
      for (const limit of [60, 10_000]) {
        let parameters: Parameters = { order, limit };
        for (;;) {
          const { next_cursor: cursor } = JSON.parse(await both.same('/events/', parameters)) as ListJson;
          if (limit > 60) await both.same('/events/', parameters, 'application/x-ndjson');
          if (cursor === null) break;
          parameters = { limit, cursor };
        }
      }
    }
    for (const source of hostile) await both.same('/events/', { source, type: 'event', from: 0 });
  });

  test('list more events than are fetched at a time, with ids that do not fit into a URL', async () => {
    const filler = 'é'.repeat(100);
    const rows = Array.from({ length: 3000 }, (_, i) => ({ id: `e${i}${filler}`, timeMs: noon + (i % 100) }));
    await both.insert(rows);
    const { events } = JSON.parse(await both.same('/events/', { limit: 10_000 })) as ListJson;
    assert.equal(events.length, 3000);
    await both.same('/events/', { limit: 2999, order: 'asc' });
  });

  test('end a page early at the same event when events are large', async () => {
    const filler = 'x'.repeat(240_000);
    for (let part = 0; part < 15; part += 1)
      await both.insert(
        Array.from({ length: 10 }, (_, i) => ({ id: `${part}-${i}`, body: JSON.stringify({ filler }) })),
      );
    const { events, next_cursor: cursor } = JSON.parse(
      await both.same('/events/', { limit: 200 }),
    ) as ListJson;
    assert.ok(events.length < 150 && cursor !== null);
    await both.same('/events/', { cursor: cursor ?? '' });
  });

  test('page completely and without repeats while events are inserted', async () => {
    const steady = Array.from({ length: 60 }, (_, i) => ({
      id: `s${i}`,
      timeMs: noon + (i % 7) * msPerHour,
    }));
    for (const order of ['asc', 'desc']) {
      await both.clear();
      await both.insert(steady);
      const seen: string[] = [];
      let parameters: Parameters = { order, limit: 7 };
      for (let page = 0; ; page += 1) {
        const answer = JSON.parse(await both.same('/events/', parameters)) as ListJson;
        seen.push(...answer.events.map(({ id }) => id));
        if (answer.next_cursor === null) break;
        parameters = { limit: 7, cursor: answer.next_cursor };
        if (page < 9) await both.insert([{ id: `new${page}`, timeMs: noon + (page % 7) * msPerHour }]);
      }
      assert.equal(new Set(seen).size, seen.length);
      assert.deepEqual(
        steady.filter(({ id }) => !seen.includes(id)),
        [],
      );
    }
  });
});
