// No answer is smaller than it should be without saying so, whichever replicas and shards are down, hang or are behind.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { ReadAnswer } from '../../../src/store/queries/handle.ts';
import { openShards, type Shards } from '../../../src/store/queries/shards.ts';
import type { Fault } from '../../support/clickhouse_node.ts';
import { bodyText, type ListJson, noon, problemOf, query, type StatisticsJson } from './fixture.ts';
import { readFrom, ShardedFixture } from './sharded_fixture.ts';

interface PartialJson {
  readonly partial?: boolean;
  readonly missing_shards?: readonly number[];
  readonly stale_shards?: readonly number[];
}

/** Both replicas of a shard may be silent for a quarter of it, so that it must not be long. */
const limitMs = 24_000;

describe('reads of shards that are not well', () => {
  let fixture: ShardedFixture;
  /** With a fresh memory of the nodes' health for each test. */
  let shards: Shards;
  const ids = Array.from({ length: 30 }, (_, i) => `e${i}`);
  before(async () => {
    fixture = await ShardedFixture.open();
    await fixture.insert(ids.map((id, i) => ({ id, subject: `s${i % 3}`, timeMs: noon + i })));
  });
  after(async () => {
    await fixture.close();
  });
  const open = async (): Promise<void> => {
    shards = await openShards({ shards: fixture.targets });
  };
  afterEach(async () => {
    await shards.close();
    for (const node of fixture.nodes)
      for (const replica of [0, 1]) {
        await node.setFault(replica, 'none');
        await node.setState(replica, {});
      }
  });

  const fault = async (shard: number, replica: number, what: Fault): Promise<void> => {
    await fixture.nodes[shard]?.setFault(replica, what);
  };
  const read = (
    path: string,
    parameters: Readonly<Record<string, string>> = {},
    accept = '',
  ): Promise<ReadAnswer> => readFrom(shards, path, query(parameters), accept, limitMs);
  const idsIn = (shard: number): string[] => ids.filter((id) => fixture.shardOf({ id }) === shard);
  const idOn = (shard: number): string => idsIn(shard)[0] ?? assert.fail();

  async function json<T>(
    path: string,
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<T & PartialJson> {
    const answer = await read(path, parameters);
    assert.equal(answer.status, 200, bodyText(answer));
    return JSON.parse(bodyText(answer)) as T & PartialJson;
  }

  /** All kinds of reads give everything and say nothing of a part. */
  async function assertWhole(): Promise<void> {
    const list = await json<ListJson>('/events/');
    assert.deepEqual(new Set(list.events.map(({ id }) => id)), new Set(ids));
    const statistics = await json<StatisticsJson>('/events/statistics', { group_by: 'subject', exact: '1' });
    assert.equal(statistics.total.count, ids.length);
    assert.equal(statistics.total.unique_subjects, 3);
    for (const answer of [list, statistics])
      assert.deepEqual(
        Object.keys(answer).filter((name) => /partial|shards/.test(name)),
        [],
      );
    for (const shard of [0, 1]) assert.equal((await read(`/events/${idOn(shard)}`)).status, 200);
    assert.equal(problemOf(await read('/events/nobody')).code, 'not_found');
  }

  /** All kinds of reads give what shard 0 has, and name shard 1. */
  async function assertPartial(): Promise<void> {
    const marks = { partial: true, missing_shards: [1] };
    const header = 'shards=1';
    const list = await read('/events/');
    assert.equal(list.headers?.['ess-partial'], header);
    const page = JSON.parse(bodyText(list)) as ListJson & PartialJson;
    assert.deepEqual({ partial: page.partial, missing_shards: page.missing_shards }, marks);
    assert.deepEqual(new Set(page.events.map(({ id }) => id)), new Set(idsIn(0)));
    const lines = await read('/events/', { limit: '3' }, 'application/x-ndjson');
    assert.equal(lines.headers?.['ess-partial'], header);
    assert.ok(lines.headers?.['link'] !== undefined);
    assert.equal(bodyText(lines).trimEnd().split('\n').length, 3);
    assert.ok(!bodyText(lines).includes('partial'));

    const statistics = await json<StatisticsJson>('/events/statistics', {
      group_by: 'subject',
      value: 'partition',
    });
    assert.deepEqual({ partial: statistics.partial, missing_shards: statistics.missing_shards }, marks);
    assert.equal(statistics.total.count, idsIn(0).length);
    const table = await read('/events/statistics', { group_by: 'id' }, 'text/csv');
    assert.equal(table.headers?.['ess-partial'], header);
    assert.equal(bodyText(table).trimEnd().split('\r\n').length, idsIn(0).length + 1);

    const found = await read(`/events/${idOn(0)}`);
    assert.equal(found.status, 200);
    const event = JSON.parse(bodyText(found)) as PartialJson;
    assert.deepEqual({ partial: event.partial, missing_shards: event.missing_shards }, marks);
    for (const id of [idOn(1), 'nobody']) {
      const answer = await read(`/events/${id}`);
      const problem = problemOf(answer) as PartialJson & { readonly code: string };
      assert.deepEqual([problem.code, problem.missing_shards], ['store_unavailable', [1]]);
      assert.equal(answer.headers?.['ess-partial'], header);
      assert.ok(Number(answer.headers?.['retry-after']) > 0);
    }
  }

  const faults: readonly Fault[] = ['down', 'drop_before', 'drop_after', { reject: 202 }, { reject: 516 }];
  for (const what of faults) {
    test(`are whole while the other replica answers and partial when none does: ${JSON.stringify(what)}`, async () => {
      await open();
      await fault(0, 0, what);
      await fault(1, 1, what);
      await assertWhole();
      await fault(1, 0, what);
      await assertPartial();
      await fault(1, 1, 'none');
      await fault(0, 0, 'none');
      await fault(0, 1, what);
      await assertWhole();
    });
  }

  test('are refused, never empty, when no shard answers', async () => {
    await open();
    for (const shard of [0, 1]) for (const replica of [0, 1]) await fault(shard, replica, 'down');
    for (const path of ['/events/', '/events/statistics', `/events/${idOn(0)}`]) {
      for (const accept of ['', 'text/csv', 'application/x-ndjson']) {
        const answer = await read(path, {}, accept);
        const problem = problemOf(answer) as PartialJson & { readonly code: string };
        assert.deepEqual([problem.code, problem.missing_shards], ['store_unavailable', [0, 1]]);
        assert.ok(Number(answer.headers?.['retry-after']) > 0);
      }
    }
  });

  test('have time for an answer left when a node hangs, and when a whole shard does', async () => {
    await open();
    await fault(0, 0, 'hang');
    await assertWhole();
    fixture.nodes[1]?.pause();
    try {
      await assertPartial();
    } finally {
      fixture.nodes[1]?.resume();
    }
  });

  test('name a shard that fails in the middle of a read', async () => {
    await open();
    // The statement that looks for the range is the first one.
    const slow = fault(1, 0, { delay: 300 });
    await slow;
    await fault(1, 1, 'down');
    const answer = read('/events/statistics', { group_by: 'subject' });
    await new Promise((resolve) => setTimeout(resolve, 450));
    await fault(1, 0, 'down');
    const statistics = JSON.parse(bodyText(await answer)) as StatisticsJson & PartialJson;
    // Whether it came in time or not: the answer tells.
    const expected = statistics.partial === true ? idsIn(0).length : ids.length;
    assert.equal(statistics.total.count, expected);
    assert.equal(
      statistics.groups.reduce((sum, { count }) => sum + count, 0),
      expected,
    );
  });

  test('say which shards are behind, and do not call an event absent there', async () => {
    await open();
    await fixture.nodes[1]?.setState(0, { insertsInQueue: 2 });
    await assertWhole();
    await fixture.nodes[1]?.setState(1, { isReadonly: true });
    const answer = await read('/events/');
    assert.equal(answer.headers?.['ess-stale'], 'shards=1');
    const page = JSON.parse(bodyText(answer)) as ListJson & PartialJson;
    assert.deepEqual([page.events.length, page.partial, page.stale_shards], [ids.length, undefined, [1]]);
    const problem = problemOf(await read('/events/nobody')) as PartialJson & { readonly code: string };
    assert.deepEqual([problem.code, problem.stale_shards], ['store_unavailable', [1]]);
  });
});
