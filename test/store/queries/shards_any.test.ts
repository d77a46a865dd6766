// Any read over two shards of two replicas each answers what one store with the same rows answers.

import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { msPerHour } from '../../../src/store/schema.ts';
import type { ListJson, TestRow } from './fixture.ts';
import { ShardsAndWhole } from './sharded_fixture.ts';

const statisticsPath = '/events/statistics';

describe('answers of several shards', () => {
  let both: ShardsAndWhole;
  before(async () => {
    both = await ShardsAndWhole.open();
  });
  after(async () => {
    await both.close();
  });
  test('equal those of one store for any rows and any parameters', async () => {
    const times = fc.constantFrom(
      ...[-2 * msPerHour, -msPerHour - 1, -1, 0, 1, 1000, 59_999, 60_000, msPerHour, msPerHour + 500],
    );
    const member = fc.constantFrom<unknown[]>(
      undefined,
      null,
      '',
      'x',
      "y'z",
      '12',
      12,
      -1.5,
      0.25,
      true,
      [1],
      {
        d: 'x',
      },
    );
    const row = fc.record({
      id: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', '\u{1F600}', '\uffee', "g'"),
      source: fc.constantFrom('', 's', '\u{1F600}'),
      subject: fc.constantFrom('', 'p', 'q', 'r'),
      type: fc.constantFrom('event', 'other'),
      timeMs: times,
      ingestMs: times,
      lagMs: fc.integer({ min: -5, max: 1000 }),
      version: fc.integer({ min: 1, max: 1_000_000 }),
      k: member,
      d: member,
    });
    const parts = fc.array(fc.array(row, { maxLength: 15 }), { minLength: 1, maxLength: 3 });
    const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
      fc.option(arbitrary, { nil: undefined });
    const asked = fc.record({
      from: optional(fc.constantFrom(-msPerHour, 0, 1)),
      to: optional(fc.constantFrom(2, 60_000, 3 * msPerHour)),
      clock: optional(fc.constantFrom('time', 'ingest')),
      bucket: optional(fc.constantFrom('auto', '5m', '1h', '1d')),
      group_by: optional(
        fc
          .subarray(['type', 'subject', 'k', 'n.d', 'source', 'id'], { minLength: 1 })
          .map((paths) => paths.join(',')),
      ),
      value: optional(fc.constantFrom('k', 'n.d')),
      where: optional(fc.constantFrom('type:event', 'k:12', 'n.d:x', 'source:', 'id:a')),
      exact: optional(fc.constantFrom('0', '1')),
      limit: optional(fc.constantFrom(1, 2, 3, 10)),
    });
    const listed = fc.record({
      from: optional(fc.constantFrom(-msPerHour, 0, 1)),
      to: optional(fc.constantFrom(2, 60_000, 3 * msPerHour)),
      type: optional(fc.constantFrom('event', 'other')),
      source: optional(fc.constantFrom('', 's', '\u{1F600}')),
      subject: optional(fc.constantFrom('', 'p')),
      order: optional(fc.constantFrom('asc', 'desc')),
      limit: optional(fc.constantFrom(1, 2, 3, 10)),
    });
    await fc.assert(
      fc.asyncProperty(
        parts,
        fc.array(asked, { minLength: 2, maxLength: 2 }),
        listed,
        async (inserts, asks, list) => {
          await both.clear();
          const versions = new Set<number>();
          for (const part of inserts) {
            const rows: TestRow[] = [];
            for (const { k, d, lagMs, version, ...rest } of part) {
              // Versions are never equal in ESS, and one insert has no two rows of one identity.
              if (versions.has(version)) continue;
              versions.add(version);
              const body = JSON.stringify({ id: rest.id, k, n: { d } });
              rows.push({ ...rest, version: BigInt(version), storeMs: rest.ingestMs + lagMs, body });
            }
            await both.insert(rows);
          }
          for (const ask of asks) {
            await both.same(statisticsPath, given(ask));
            await both.same(statisticsPath, given(ask), 'text/csv');
          }
          let parameters = given(list);
          for (let page = 0; page < 3; page += 1) {
            const { next_cursor: cursor } = JSON.parse(await both.same('/events/', parameters)) as ListJson;
            if (cursor === null) break;
            parameters = { limit: parameters['limit'] ?? 100, cursor };
          }
          for (const id of ['a', '\u{1F600}', "g'"]) await both.same(`/events/${encodeURIComponent(id)}`);
          await both.same('/events/a', { source: 's' });
        },
      ),
      { numRuns: 12 },
    );
  });
});

/** The parameters that are not left out. */
function given(
  parameters: Readonly<Record<string, string | number | undefined>>,
): Record<string, string | number> {
  const all: Record<string, string | number> = {};
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) all[name] = value;
  return all;
}
