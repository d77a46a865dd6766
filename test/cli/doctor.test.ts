// `ess doctor` without Kafka: its command line, the machine, ClickHouse nodes with faults made for real, and by injection
// what cannot be broken here (clocks, disks that are full, slow or uneven, versions). Kafka: doctor_kafka.test.ts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { commandOf } from '../../src/cli/command.ts';
import { checkIds, checksTable } from '../../src/cli/doctor/checks.ts';
import { settingsLine, stateLines, versionLine } from '../../src/cli/doctor/clickhouse.ts';
import { skewOf as clockSkewOf } from '../../src/cli/doctor/clock.ts';
import { failedDirLines, unevenLine } from '../../src/cli/doctor/kafka_cluster.ts';
import { skewOf } from '../../src/cli/doctor/kafka_topics.ts';
import { Deadline } from '../../src/cli/doctor/patient.ts';
import { ok } from '../../src/cli/doctor/report.ts';
import { serviceLines } from '../../src/cli/doctor/service.ts';
import { spaceLine } from '../../src/cli/doctor/space.ts';
import { runInit } from '../../src/cli/init.ts';
import { openDataDir } from '../../src/engine/data_dir.ts';
import { EssError } from '../../src/errors.ts';
import { openStore } from '../../src/store/client.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';
import { assertHas, examine, faults, has, runText, untilHas } from './doctor_run.ts';

const secret = 'correct-horse-battery-staple';
const folder = mkdtempSync(join(tmpdir(), 'ess-doctor-'));
after(() => rmSync(folder, { recursive: true, force: true }));

// ---- the command line -----------------------------------------------------------------------------------------

test('doctor is a command of its own, with its own help', async () => {
  assert.deepEqual(commandOf(['doctor', '--json']), { type: 'doctor', argv: ['--json'] });
  assert.deepEqual(commandOf(['help', 'doctor']), { type: 'doctor', argv: ['--help'] });
  for (const flag of ['--help', '-h']) {
    const { code, out, err } = await runText([flag]);
    assert.deepEqual([code, err], [0, '']);
    for (const name of ['--json', '--wait-ms', '--url', '--strict']) assert.ok(out.includes(name));
    for (const line of out.split('\n')) assert.ok(line.length <= 100, line);
  }
});

test('an option that is not valid gives 2, its name and no secret', async () => {
  const bad: [string[], string][] = [
    [['--jsn'], '--jsn'],
    [['--wait-ms', '999'], '--wait-ms'],
    [['--url', 'nowhere'], '--url'],
    [['--url', `http://ess:${secret}@a:1`], '--url'],
    [['--port', 'x'], '--port'],
    [['--kafka-brokers', 'a'], '--kafka-brokers'],
    [['--clickhouse', 'http://a:1', '--clickhouse-password-file', join(folder, 'none')], 'password-file'],
  ];
  for (const [argv, name] of bad) {
    const { code, out, err } = await runText(argv);
    assert.deepEqual([code, out], [2, '']);
    assert.ok(err.includes(name), err);
  }
});

test('docs/operations.md has the table of all checks', () => {
  const text = readFileSync('docs/operations.md', 'utf8');
  assert.ok(text.includes(checksTable()), `docs/operations.md has to have this table:\n${checksTable()}`);
  assert.equal(new Set(checkIds).size, checkIds.length);
});

test('a warning fails with --strict only, and the report for a person says why and what mends it', async () => {
  const argv = ['--data-dir', join(folder, 'never')];
  const plain = await runText(argv);
  assert.equal(plain.code, 0);
  for (const text of ['This machine', 'data_dir', 'why: ', 'mend: ess init', '0 errors, ']) {
    assert.ok(plain.out.includes(text), plain.out);
  }
  assert.equal((await runText([...argv, '--strict'])).code, 1);
  // One line for all that is unknown for the same reason.
  const gone = await runText([...argv, '--kafka-brokers', '127.0.0.1:1']);
  assert.equal(gone.code, 1);
  assert.ok(/unknown +\d+ lines/.test(gone.out) && gone.out.includes('topic_retention'), gone.out);
  assert.ok(!existsSync(join(folder, 'never')));
});

test('a task that fails or hangs costs its own checks only', async () => {
  const deadline = new Deadline(300);
  const settle = (run: () => Promise<never>) =>
    deadline.settle({ ids: ['platform', 'data_dir'], subject: 'x', run });
  const failed = await settle(() => Promise.reject(new EssError('internal', 'because')));
  assert.deepEqual(
    failed.map(({ check, verdict, found }) => `${check} ${verdict} ${found}`),
    ['platform unknown because', 'data_dir unknown because'],
  );
  const hanging = await settle(() => new Promise(() => {}));
  assert.ok(hanging.every(({ verdict, found }) => verdict === 'unknown' && found.includes('--wait-ms')));
  const line = ok('platform', '', 'fine');
  assert.deepEqual(await deadline.settle({ ids: ['platform'], subject: '', run: async () => [line] }), [
    line,
  ]);
});

// ---- the machine ----------------------------------------------------------------------------------------------

test('an embedded deployment is well once it is made, and nothing is left behind', async () => {
  const dataDir = join(folder, 'made');
  openDataDir(dataDir);
  const report = await examine(['--data-dir', dataDir, '--sinks', '1'], {
    machine: { checkPlatform: async () => {}, fsyncTimes: async () => [1, 2, 3] },
  });
  assert.deepEqual(faults(report), []);
  const measured = await examine(['--data-dir', dataDir]);
  assert.ok(measured.lines.some(({ check, found }) => check === 'fsync_latency' && found.includes('median')));
  assert.deepEqual(readdirSync(dataDir), ['format.json']);
});

test('a data directory that is missing, or cannot be used', async () => {
  assertHas(await examine(['--data-dir', join(folder, 'none')]), 'data_dir', 'warning', 'ess init');
  const file = join(folder, 'file');
  writeFileSync(file, '');
  assertHas(await examine(['--data-dir', file]), 'data_dir', 'error', 'chown');
});

test('more sinks than threads of the pool, for the embedded store only', async () => {
  const argv = ['--data-dir', folder, '--sinks', '6', '--partitions', '6'];
  assertHas(await examine(argv), 'thread_pool', 'warning', 'UV_THREADPOOL_SIZE=8');
  assertHas(await examine(argv, { env: { UV_THREADPOOL_SIZE: '6' } }), 'thread_pool', 'ok');
});

test('fewer open files than slots, under a limit of the process', (context) => {
  const entry = fileURLToPath(new URL('./ess.js', import.meta.url));
  if (!existsSync(entry)) return context.skip('built without the entry');
  const argv = [process.execPath, entry, 'doctor', '--json', '--data-dir', folder];
  const { stdout, status } = spawnSync('bash', ['-c', 'ulimit -n 300 && exec "$@"', 'bash', ...argv], {
    encoding: 'utf8',
  });
  assert.equal(status, 0, stdout);
  const { checks }: { checks: { check: string; verdict: string; mend: string }[] } = JSON.parse(stdout);
  const line = checks.find(({ check }) => check === 'file_descriptors');
  assert.equal(line?.verdict, 'warning');
  assert.ok(line?.mend.includes('LimitNOFILE='));
  assert.equal(checks.find(({ check }) => check === 'platform')?.verdict, 'ok');
});

test('by injection: a native module that does not load, a disk that is full or slow', async () => {
  const refuse = () => Promise.reject(new EssError('platform_unsupported', 'needs glibc 2.36'));
  const argv = ['--data-dir', folder];
  assertHas(await examine(argv, { machine: { checkPlatform: refuse } }), 'platform', 'error', 'glibc');
  const checkPlatform = async (): Promise<void> => {};
  const giB = 1024 ** 3;
  for (const [freeBytes, verdict] of [
    [5 * giB, 'warning'],
    [giB / 16, 'error'],
    [50 * giB, 'ok'],
  ] as const) {
    const space = async () => ({ freeBytes, totalBytes: 100 * giB });
    assertHas(await examine(argv, { machine: { checkPlatform, space } }), 'data_dir_space', verdict);
    assert.equal(spaceLine('kafka_disk', '', freeBytes, 100 * giB, 'more').verdict, verdict);
  }
  for (const [ms, verdict] of [
    [80, 'warning'],
    [3000, 'error'],
  ] as const) {
    const machine = { checkPlatform, fsyncTimes: async () => [ms, ms, 1] };
    assertHas(await examine(argv, { machine }), 'fsync_latency', verdict, 'SSD');
  }
});

test('by injection: log directories that failed, brokers with most of the bytes or none of the copies', () => {
  const dir = {
    errorCode: 0,
    path: '/a',
    totalBytes: 1,
    usableBytes: 1,
    partitions: new Map<number, number>(),
  };
  assert.equal(failedDirLines('broker 1', [dir], 0)[0]?.verdict, 'ok');
  const [failed] = failedDirLines('broker 1', [dir, { ...dir, errorCode: 56, path: '/b' }], 2);
  assert.equal(failed?.verdict, 'error');
  assert.ok(failed?.found.includes('/b') && failed.found.includes('2 replicas'));
  assert.equal(failedDirLines('broker 1', [dir], 1)[0]?.verdict, 'error');
  const disk = (usableBytes: number) => ({ ...dir, totalBytes: 100, usableBytes });
  assert.equal(unevenLine('broker 1', [disk(50), disk(60)]), null);
  assert.equal(unevenLine('broker 1', [disk(50)]), null);
  assert.equal(unevenLine('broker 1', [disk(30), disk(90)])?.verdict, 'warning');
  const load = { leaders: 4, copies: 12, bytes: 8 * 1024 ** 3 };
  const loads = [0, 1, 2].map((nodeId) => ({ ...load, nodeId }));
  assert.deepEqual(skewOf(loads), []);
  assert.deepEqual(skewOf(loads.map((each) => ({ ...each, bytes: null }))), []);
  assert.ok(
    skewOf([...loads, { nodeId: 3, leaders: 0, copies: 0, bytes: 0 }])[0]?.includes('broker 3 has no copy'),
  );
  assert.ok(skewOf([...loads, { ...load, nodeId: 3, bytes: 1024 ** 3 }])[0]?.includes('bytes by broker'));
});

// ---- the running service --------------------------------------------------------------------------------------

test('a process that does not answer, has troubles, or does not add up', async () => {
  const argv = ['--data-dir', folder, '--url', 'http://127.0.0.1:1'];
  assertHas(await examine(argv), 'service_status', 'error', 'does not answer');
  const url = 'http://a:1';
  const conservation = { exact: true };
  const verdictsOf = (stats: unknown): string[] => serviceLines(url, stats).map(({ verdict }) => verdict);
  assert.deepEqual(verdictsOf({ status: 'ready', troubles: [], conservation }), ['ok', 'ok']);
  assert.deepEqual(verdictsOf({ status: 'ready', troubles: [], conservation: { exact: false } }), [
    'ok',
    'error',
  ]);
  assert.deepEqual(verdictsOf({ status: 'ready', troubles: [], conservation: { exact: null } }), [
    'ok',
    'unknown',
  ]);
  const troubles = [
    { kind: 'lag', text: '70 s' },
    { kind: 'partition_halted', text: '3' },
    { kind: 'of_a_newer_ess', text: '?' },
  ];
  assert.deepEqual(verdictsOf({ status: 'degraded', troubles, conservation }), [
    'warning',
    'error',
    'warning',
    'ok',
  ]);
  for (const odd of [null, 3, {}, { status: 1 }, { status: 'ready', troubles: 1 }])
    assert.equal(verdictsOf(odd)[0], 'error');
});

// ---- ClickHouse -----------------------------------------------------------------------------------------------

let plain: ClickHouseNode;
let pair: ClickHouseNode;
before(async () => {
  [plain, pair] = await Promise.all([
    ClickHouseNode.start({ user: 'ess', password: secret }),
    ClickHouseNode.start({ replicas: 2, isReplicated: true, user: 'ess', password: secret }),
  ]);
});
after(() => Promise.all([plain?.dispose(), pair?.dispose()]));

const env = { ESS_CLICKHOUSE_PASSWORD: secret };
const on = (urls: readonly string[], ...argv: string[]): string[] => [
  '--data-dir',
  join(folder, 'clickhouse'),
  '--clickhouse',
  urls.join(','),
  '--clickhouse-user',
  'ess',
  ...argv,
];

/** Makes database and tables as a user does. */
async function init(argv: readonly string[]): Promise<void> {
  const stdout = new Writable({ write: (_chunk, _encoding, done) => done() });
  const code = await runInit([...argv], { env, cores: 8, stdout, stderr: stdout, openDataDir });
  assert.equal(code, 0);
}

async function execute(node: ClickHouseNode, database: string, ...statements: string[]): Promise<void> {
  const [target] = node.targets(database);
  assert.ok(target !== undefined);
  const store = await openStore(target);
  for (const statement of statements) await store.command(statement);
  await store.close();
}

const machine = { checkPlatform: async () => {}, fsyncTimes: async () => [1] };

test('nodes that ess init made have no error and no warning', async () => {
  for (const node of [plain, pair]) {
    await init(on(node.urls));
    const report = await examine(on(node.urls), { env, machine });
    assert.deepEqual(faults(report), []);
    assertHas(report, 'clickhouse_tables', 'ok');
    assertHas(report, 'clickhouse_layout', 'ok');
    assert.equal(has(report, 'clickhouse_keeper', 'ok'), node === pair);
  }
});

test('tables that are missing, differ, or have too many parts', async () => {
  const argv = on(plain.urls, '--clickhouse-database', 'altered');
  assertHas(await examine(argv, { env }), 'clickhouse_tables', 'error', 'ess init');
  await init(argv);
  await execute(
    plain,
    'altered',
    'ALTER TABLE events MODIFY SETTING fsync_after_insert = 0',
    'ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 100',
    'ALTER TABLE ledger ADD COLUMN stranger String',
    'ALTER TABLE events MODIFY SETTING parts_to_throw_insert = 1',
    "INSERT INTO events (hour, id, ingest_time) VALUES (1, 'a', now64(3))",
    'INSERT INTO layout (version, shards, shard, recorded_time) VALUES (2, 2, 0, now64(3))',
  );
  const report = await examine(argv, { env });
  assertHas(report, 'clickhouse_fsync', 'error', 'ess init --apply');
  assertHas(report, 'clickhouse_deduplication', 'error', 'is 100');
  assertHas(report, 'clickhouse_tables', 'error', 'stranger');
  assertHas(report, 'clickhouse_parts', 'error', 'at 1 inserts are refused');
  assertHas(report, 'clickhouse_layout', 'error');
  await execute(plain, 'altered', 'DROP TABLE ledger');
  assertHas(await examine(argv, { env }), 'clickhouse_tables', 'error', 'table ledger is missing');
});

test('a node that is down or hangs costs its own checks only, within the time; a wrong password is no secret', async () => {
  const [, other] = pair.urls;
  assert.ok(other !== undefined);
  await pair.setFault(0, 'down');
  const down = await examine(on(pair.urls), { env, machine });
  assertHas(down, 'clickhouse_nodes', 'error', 'systemctl start clickhouse-server');
  assertHas(down, 'clickhouse_nodes', 'ok', new URL(other).host);
  await pair.setFault(0, 'hang');
  const startMs = performance.now();
  const hanging = await examine(on(pair.urls, '--wait-ms', '3000'), { env, machine });
  // Not a matter of speed: the bound that was asked for, and what a busy machine needs beside it.
  assert.ok(performance.now() - startMs < 20_000);
  assertHas(hanging, 'clickhouse_nodes', 'error', 'does not answer');
  assertHas(hanging, 'clickhouse_keeper', 'unknown');
  assertHas(hanging, 'clickhouse_keeper', 'ok', new URL(other).host);
  await pair.setFault(0, 'none');
  const wrong = { ESS_CLICKHOUSE_PASSWORD: `not ${secret}` };
  const { code, out } = await runText(on(plain.urls), { env: wrong });
  assert.equal(code, 1);
  assert.ok(!out.includes(secret));
});

test('a replica without Keeper, and one that is behind', async () => {
  await pair.setState(0, { isReadonly: true });
  await untilHas(on(pair.urls), [['clickhouse_keeper', 'error', 'read-only']], { env, machine });
  await pair.setState(0, { absoluteDelay: 100, insertsInQueue: 3 });
  await untilHas(on(pair.urls), [['clickhouse_replica_lag', 'warning', '100 s behind']], { env, machine });
  await pair.setState(0, {});
});

test('by injection: a version that is old, settings that are fixed, a disk that is full', async () => {
  assert.equal(clockSkewOf({ sentMs: 10, thereMs: 15, receivedMs: 20 }), 0);
  assert.equal(clockSkewOf({ sentMs: 10, thereMs: 30, receivedMs: 20 }), 10);
  for (const [version, verdict] of [
    ['22.8.1.1', 'warning'],
    ['23.3.2.1', 'warning'],
    ['23.8.1.1', 'ok'],
    ['25.5.2.1', 'ok'],
    ['', 'unknown'],
  ] as const)
    assert.equal(versionLine('', version).verdict, verdict, version);
  const setting = (name: string, value: string, readonly = 0) => ({ name, value, readonly });
  const verdictOf = (...settings: ReturnType<typeof setting>[]) => settingsLine('', settings).verdict;
  assert.equal(verdictOf(setting('async_insert', '1'), setting('insert_deduplicate', '1')), 'ok');
  assert.equal(verdictOf(setting('async_insert', '1', 1)), 'error');
  assert.equal(verdictOf(setting('insert_deduplicate', '0')), 'error');
  assert.equal(verdictOf(setting('readonly', '2')), 'error');
  const state = { rows: 1, parts: 1, partsMax: 100, diskFreeBytes: 1, diskTotalBytes: 100 };
  const verdictsOf = (more: object) => stateLines('', { ...state, ...more }).map(({ verdict }) => verdict);
  assert.deepEqual(verdictsOf({}), ['ok', 'error']);
  assert.deepEqual(verdictsOf({ parts: 60, diskFreeBytes: null }), ['warning', 'unknown']);
  assert.deepEqual(verdictsOf({ parts: null, partsMax: null }), ['unknown', 'error']);
});
