// Invariant: on brokers and two shards a proof under load is exact, time after time, while sinks come and go; and whatever
// somebody deletes or adds by hand on the nodes is named, with its partition and offsets, and nothing else is.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Journal } from '../crash/journal.ts';
import { load } from '../crash/load.ts';
import { seededRandom, testSeed } from '../crash/random.ts';
import type { EssProcess } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import {
  addRange,
  aLostEvent,
  deleteRange,
  deleteRow,
  doubleRow,
  essVerify,
  essVerifyJson,
  foundIn,
  type ReportJson,
} from '../verify/by_hand.ts';
import { ClusterRig, type Flags } from './rig.ts';

/** Small blocks, so that every partition has many ranges. */
const flags: Flags = {
  producers: 1,
  sinks: 2,
  readers: 1,
  'sink-linger-ms': 20,
  'sink-batch-rows-max': 50,
  'sink-inserts-per-second': 100,
  'kafka-session-timeout-ms': 6_000,
};
const runs = 6;

describe('ess verify on a cluster', needsKafka(), () => {
  const random = seededRandom(testSeed());
  let rig: ClusterRig;
  before(async () => {
    rig = await ClusterRig.start({ shards: 2, replicas: 1, brokers: 1 });
  });
  after(() => rig?.dispose());

  test('is exact under load, and names what was done by hand on the nodes', async () => {
    const scope = await rig.scope(flags);
    const journal = new Journal('proof');
    const argv = Object.entries(scope.flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const underLoad = async (ingest: EssProcess, work: () => Promise<void>): Promise<void> => {
      let isOver = false;
      const traffic = load(ingest, journal, random, () => isOver, { clients: 6, pauseMs: 10 });
      try {
        await work();
      } finally {
        isOver = true;
        await traffic;
      }
    };
    try {
      const ingest = await scope.start('ingest');
      let sink = await scope.start('sink');
      await underLoad(ingest, async () => {
        for (let run = 0; run < runs; run += 1) {
          const report = await essVerifyJson([...argv, '--deep'], 0);
          assert.deepEqual([report.exact, report.findings], [true, []]);
          if (run === 2) {
            // What a dead sink leaves half done is in flight.
            await sink.end('SIGKILL');
            sink = await scope.start('sink');
          }
        }
        assert.ok((await sink.getJson<ReportJson>('/verify?deep=1')).exact);
      });
      const states = await scope.drained();
      const whole = await essVerifyJson([...argv, '--deep'], 0);
      assert.equal(
        whole.records,
        states.reduce((sum, { end }) => sum + end, 0),
      );
      assert.deepEqual([whole.in_flight, whole.rows + whole.duplicates], [0, whole.records]);
      assert.equal(
        (await essVerify([...argv, '--clickhouse', String(scope.flags['clickhouse']).split(';')[0] ?? '']))
          .code,
        2,
      );

      const log = await scope.openLog();
      const { epoch } = log;
      await log.close();
      const stores = await scope.openStores();
      const [even, odd] = stores;
      assert.ok(even !== undefined && odd !== undefined);
      const expected = [
        ...(await deleteRow(even, epoch, 0)),
        ...(await doubleRow(odd, epoch, 1)),
        ...(await deleteRange(even, epoch, 2)),
        ...(await addRange(odd, epoch, 3)),
      ];
      await odd.command(
        `INSERT INTO events SELECT * REPLACE({partition:UInt16} AS partition, {offset:UInt64} AS offset, 'strange' AS id)
         FROM (SELECT * FROM events WHERE epoch = {epoch:String} AND partition = 5 LIMIT 1)`,
        { epoch, partition: 4, offset: 1 },
        { settings: { insert_deduplication_token: 'by hand, another shard' } },
      );
      expected.push('rows_outside 4:0');
      expected.sort();
      await underLoad(ingest, async () => {
        for (let run = 0; run < 2; run += 1) {
          const report = await essVerifyJson([...argv, '--deep'], 1);
          assert.deepEqual(foundIn(report), expected);
          const gone = report.findings.find(({ kind }) => kind === 'rows_missing');
          // Read from the topic, by name.
          assert.match(gone?.examples.join() ?? '', aLostEvent);
        }
        assert.deepEqual(foundIn(await sink.getJson<ReportJson>('/verify?deep=1')), expected);
      });
      const ofLedger = expected.filter((each) => each.startsWith('ledger_'));
      assert.deepEqual(foundIn(await essVerifyJson(argv, 1)), ofLedger);
      for (const store of stores) await store.close();

      await rig.nodes[1]?.kill();
      const silent = await essVerify(argv);
      assert.deepEqual([silent.code, silent.out], [1, '']);
      assert.match(silent.err, /^ess verify: nothing is proven: /);
      assert.equal((await fetch(`${sink.url}/verify`)).status, 503);
    } finally {
      await scope.end();
    }
  });
});
