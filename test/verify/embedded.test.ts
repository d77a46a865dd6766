// Invariant: on the embedded log and store, a proof under load is exact, time after time; and whatever somebody deletes or
// adds by hand in the tables is named, with its partition and offsets, and nothing else is.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import type { Store } from '../../src/store/store.ts';
import { Journal, refusePoison } from '../crash/journal.ts';
import { load } from '../crash/load.ts';
import { seededRandom, testSeed } from '../crash/random.ts';
import { EssProcess } from '../support/ess_process.ts';
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
} from './by_hand.ts';

const flags = {
  producers: 1,
  sinks: 2,
  readers: 1,
  partitions: 4,
  'sink-linger-ms': 5,
  'sink-inserts-per-second': 100,
  'sink-batch-rows-max': 50,
};
const runs = 20;

describe('ess verify on the embedded log and store', { timeout: 300_000 }, () => {
  const random = seededRandom(testSeed());
  const journal = new Journal('verify');
  let ess: EssProcess;
  let epoch = '';

  before(async () => {
    ess = await EssProcess.start({ flags });
    assert.equal(await ess.end('SIGTERM'), 0);
    await refusePoison(ess.dataDir);
    ess = await EssProcess.start({ flags, dataDir: ess.dataDir });
  });
  after(() => ess.dispose());

  /** Works on the store, which nobody has open meanwhile. */
  async function byHand<T>(work: (store: Store) => Promise<T>): Promise<T> {
    await pinEmbeddedEngine();
    const store = await openStore({ kind: 'embedded', path: join(ess.dataDir, 'store') });
    try {
      return await work(store);
    } finally {
      await store.close();
    }
  }

  async function underLoad<T>(work: () => Promise<T>, hasRetries = true): Promise<T> {
    let isOver = false;
    const traffic = load(ess, journal, random, () => isOver, {
      clients: 6,
      pauseMs: 5,
      poisonShare: 0.02,
      hasRetries,
    });
    try {
      return await work();
    } finally {
      isOver = true;
      await traffic;
    }
  }

  test('is exact under load, time after time, deep or not', async () => {
    await underLoad(async () => {
      for (let run = 0; run < runs; run += 1) {
        const report = await ess.getJson<ReportJson>(`/verify?deep=${run % 2}`);
        assert.ok(report.exact, JSON.stringify(report.findings));
        assert.deepEqual([report.deep, report.findings_total], [run % 2 === 1, 0]);
      }
    });
    ({ epoch } = await ess.drained());
    const report = await essVerifyJson(['--url', ess.url, '--deep'], 0);
    assert.equal(report.records, report.rows + report.duplicates + report.parked);
    assert.deepEqual([report.in_flight, report.events, report.identities], [0, report.rows, report.rows]);
    assert.ok(report.parked > 0 && report.rows > 0, 'there is something to prove');
  });

  test('asks the process that holds the store, if one does, and tells people in a line', async () => {
    const { port } = new URL(ess.url);
    const { code, out } = await essVerify(['--data-dir', ess.dataDir, '--port', port]);
    assert.equal(code, 0);
    assert.match(
      out,
      /^exact: \d+ records = \d+ rows \+ \d+ duplicates \+ \d+ parked \+ 0 holes \+ 0 in flight/,
    );
  });

  test('refuses what it does not know, and says who does not answer', async () => {
    for (const query of ['deep=2', 'deep=1&deep=1', 'depth=1'])
      assert.equal((await fetch(`${ess.url}/verify?${query}`)).status, 400, query);
    assert.equal((await essVerify(['--url', 'nowhere'])).code, 2);
    assert.equal((await essVerify(['--dep'])).code, 2);
    const folder = mkdtempSync(join(tmpdir(), 'ess-test-'));
    const nothing = await essVerify(['--data-dir', folder]);
    rmSync(folder, { recursive: true });
    assert.deepEqual([nothing.code, nothing.out], [2, '']);
    assert.match(nothing.err, /there is no log in/);
    const silent = await essVerify(['--url', 'http://127.0.0.1:9']);
    assert.equal(silent.code, 1);
    assert.match(silent.err, /nothing is proven: http:\/\/127\.0\.0\.1:9 does not answer/);
  });

  test('one at a time, and none is left when its client goes away', async () => {
    const answers = await Promise.all([fetch(`${ess.url}/verify?deep=1`), fetch(`${ess.url}/verify?deep=1`)]);
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 503]);
    const gone = new AbortController();
    const request = fetch(`${ess.url}/verify?deep=1`, { signal: gone.signal }).catch(() => null);
    const isRunning = async (): Promise<boolean> =>
      (await ess.getJson<{ readonly running: boolean }>('/verify/progress')).running;
    while (!(await isRunning())) await new Promise((resolve) => setTimeout(resolve, 1));
    gone.abort();
    await request;
    while (await isRunning()) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  test('takes no merge for a loss: a retry that nobody remembers is a row until its first copy replaces it', async () => {
    // Many small blocks, which take their time on a busy machine.
    const late = await EssProcess.start({
      flags: { ...flags, partitions: 1, 'identities-max': 1024, 'http-deadline-ms': 120_000 },
    });
    try {
      const many = (name: string, length: number): string =>
        JSON.stringify(
          Array.from({ length }, (_, i) => ({ id: `${name}-${i}`, time: 1_700_000_000_000 + i })),
        );
      for (const batch of [many('late', 40), many('more', 4_000), many('late', 40)])
        assert.equal((await late.post(batch, '?ack=store')).status, 200);
      await late.drained();
      assert.equal(await late.end('SIGTERM'), 0);
      const stored = async (): Promise<string | undefined> => {
        await pinEmbeddedEngine();
        const store = await openStore({ kind: 'embedded', path: join(late.dataDir, 'store') });
        try {
          await store.command('OPTIMIZE TABLE events FINAL');
          return (await store.rows<{ n: string }>('SELECT count() AS n FROM events'))[0]?.n;
        } finally {
          await store.close();
        }
      };
      assert.equal(await stored(), '4040');
      const report = await essVerifyJson(['--data-dir', late.dataDir, '--deep'], 0);
      assert.deepEqual([report.rows, report.events, report.findings_total], [4_080, 4_040, 0]);
    } finally {
      await late.dispose();
    }
  });

  test('names what was deleted and added by hand, from the files and through a process under load', async () => {
    assert.equal(await ess.end('SIGTERM'), 0);
    const files = ['--data-dir', ess.dataDir];
    assert.ok((await essVerifyJson([...files, '--deep'], 0)).exact);
    const expected = await byHand(async (store) =>
      (
        await Promise.all([
          deleteRow(store, epoch, 0),
          doubleRow(store, epoch, 1),
          deleteRange(store, epoch, 2),
          addRange(store, epoch, 3),
        ])
      )
        .flat()
        .sort(),
    );
    const report = await essVerifyJson([...files, '--deep'], 1);
    assert.deepEqual(foundIn(report), expected);
    const gone = report.findings.find(({ kind }) => kind === 'rows_missing');
    assert.match(gone?.examples.join() ?? '', aLostEvent);
    const ofLedger = expected.filter((each) => each.startsWith('ledger_'));
    assert.deepEqual(foundIn(await essVerifyJson(files, 1)), ofLedger);
    const { code, out } = await essVerify(files);
    assert.equal(code, 1);
    assert.match(out, /^ledger_gap partition 2, offsets \d+-\d+: .*; what to do: /m);
    assert.match(out, /^NOT exact, 2 findings: /m);

    ess = await EssProcess.start({ flags, dataDir: ess.dataDir });
    // Sent again, the event whose row is deleted would be stored once more, and not be lost any longer.
    await underLoad(async () => {
      for (let run = 0; run < 3; run += 1)
        assert.deepEqual(foundIn(await ess.getJson<ReportJson>('/verify?deep=1')), expected);
    }, false);
    await ess.drained();
    assert.equal(await ess.end('SIGTERM'), 0);
  });

  test('names rows that no record is behind, and an event that is stored twice', async () => {
    await byHand(async (store) => {
      await store.command(
        `INSERT INTO events SELECT * REPLACE(hour + 1 AS hour, {offset:UInt64} AS offset)
         FROM (SELECT * FROM events WHERE epoch = {epoch:String} AND partition = 0 LIMIT 1)`,
        { epoch, offset: 1_000_000_000 },
        { settings: { insert_deduplication_token: 'by hand, beyond' } },
      );
    });
    const report = await essVerifyJson(['--data-dir', ess.dataDir, '--deep'], 1);
    const beyond = report.findings.find(({ kind }) => kind === 'rows_beyond_log');
    assert.deepEqual([beyond?.partition, beyond?.examples], [0, ['0:1000000000']]);
    const doubled = report.findings.find(({ kind }) => kind === 'identity_doubled');
    assert.equal(doubled?.partition, 0);
    assert.match(doubled?.examples[0] ?? '', /"id":"/);
  });
});
