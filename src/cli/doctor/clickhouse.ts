// What `ess doctor` looks at in ClickHouse: every node by itself, then what `ess init` would find in tables, replicas and
// layout. Runs on the main thread of a process of its own; reads only.

import type { ClickhouseNode } from '../../config/clickhouse.ts';
import { openStore } from '../../store/client.ts';
import { tableNames } from '../../store/migrate.ts';
import { type NodeState, readNodeState } from '../../store/node_state.ts';
import { readReplicaState } from '../../store/replica_state.ts';
import type { Store } from '../../store/store.ts';
import { settleClickhouse, targetOf } from '../init/clickhouse.ts';
import { Patience, reasonOf } from '../init/patience.ts';
import type { Step } from '../init/step.ts';
import type { CheckId } from './checks.ts';
import { clockLine } from './clock.ts';
import { counted, durationText } from './names.ts';
import type { Deadline, Task } from './patient.ts';
import { failure, type Line, ok, unknown, warning } from './report.ts';
import { rowLines } from './rows.ts';
import { spaceLine } from './space.ts';

/** A database that every node has, so that a node can be asked before there is ours. */
const systemDatabase = 'system';
/** Long-term support of so old a version has ended, and no test of ESS runs on it. */
const versionLeast = { major: 23, minor: 8 } as const;
/** Shares of parts_to_throw_insert: inserts are slowed down, and are about to be refused. */
const partsShareCalm = 0.5;
const partsShareMax = 0.9;
/** Reads go past a replica that is behind by more, as its siblings can tell (seconds). */
const replicaLagCalm = 5;

const nodeChecks: readonly CheckId[] = [
  'clickhouse_nodes',
  'clickhouse_version',
  'clickhouse_settings',
  'clickhouse_clock',
];
const tableChecks: readonly CheckId[] = [
  'clickhouse_tables',
  'clickhouse_deduplication',
  'clickhouse_fsync',
  'clickhouse_layout',
];

export function clickhouseTasks(shards: readonly (readonly ClickhouseNode[])[], deadline: Deadline): Task[] {
  const ofNodes = shards.flatMap((replicas) =>
    replicas.flatMap((node): Task[] => {
      const subject = new URL(node.url).host;
      const withStore = async <T>(database: string, work: (store: Store) => Promise<T>): Promise<T> => {
        const store = await openStore(
          { ...targetOf(node), database },
          { requestTimeoutMs: deadline.questionMs },
        );
        try {
          return await work(store);
        } finally {
          await store.close();
        }
      };
      const tasks: Task[] = [
        {
          ids: nodeChecks,
          subject,
          run: () => withStore(systemDatabase, (store) => nodeLines(subject, store)),
        },
        {
          ids: ['clickhouse_parts', 'clickhouse_disk'],
          subject,
          run: () =>
            withStore(node.database, async (store) => stateLines(subject, await readNodeState(store, {}))),
        },
      ];
      tasks.push({
        ids: ['clickhouse_rows'],
        subject,
        run: () => withStore(node.database, (store) => rowLines(subject, store)),
      });
      // One node alone has no copies to be behind of, and no Keeper.
      if (replicas.length > 1) {
        tasks.push({
          ids: ['clickhouse_keeper', 'clickhouse_replica_lag'],
          subject,
          run: () => withStore(node.database, (store) => replicaLines(subject, store)),
        });
      }
      return tasks;
    }),
  );
  const ofTables: Task = {
    ids: tableChecks,
    subject: '',
    run: async () => {
      const patience = new Patience(0);
      // A check never comes to ask for an obstacle.
      return tableLines(await settleClickhouse(shards, 'check', patience, async () => 'this is a check'));
    },
  };
  return [...ofNodes, ofTables];
}

interface SettingRow {
  readonly name: string;
  readonly value: string;
  /** 1: this user may not change it. */
  readonly readonly: number;
}

async function nodeLines(subject: string, store: Store): Promise<Line[]> {
  const sentMs = Date.now();
  let row: { readonly version: string; readonly ms: string } | undefined;
  try {
    [row] = await store.rows('SELECT version() AS version, toUnixTimestamp64Milli(now64(3)) AS ms');
  } catch (error) {
    const reason = reasonOf(error);
    const mend =
      'systemctl start clickhouse-server, on that node; if it runs, check address, user and password (--clickhouse, --clickhouse-user)';
    const others = nodeChecks.filter((id) => id !== 'clickhouse_nodes');
    return [
      failure('clickhouse_nodes', subject, `does not answer: ${reason}`, mend),
      ...others.map((id) => unknown(id, subject, 'the node does not answer')),
    ];
  }
  const receivedMs = Date.now();
  const lines: Line[] = [
    ok('clickhouse_nodes', subject, `answers within ${durationText(receivedMs - sentMs)}`),
  ];
  lines.push(versionLine(subject, row?.version ?? ''));
  lines.push(clockLine('clickhouse_clock', subject, { sentMs, thereMs: Number(row?.ms), receivedMs }));
  try {
    const settings = await store.rows<SettingRow>(
      `SELECT name, value, readonly FROM system.settings
       WHERE name IN ('async_insert', 'insert_deduplicate', 'readonly')`,
    );
    lines.push(settingsLine(subject, settings));
  } catch (error) {
    lines.push(unknown('clickhouse_settings', subject, reasonOf(error)));
  }
  return lines;
}

export function versionLine(subject: string, version: string): Line {
  const check = 'clickhouse_version';
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (!(major > 0)) return unknown(check, subject, `the node calls its version ${JSON.stringify(version)}`);
  const isOld = major < versionLeast.major || (major === versionLeast.major && minor < versionLeast.minor);
  if (!isOld) return ok(check, subject, version);
  const text = `${version}, older than ${versionLeast.major}.${versionLeast.minor}`;
  return warning(
    check,
    subject,
    text,
    'upgrade it: apt-get install clickhouse-server, one replica after the other',
  );
}

/** Of each setting: what ESS has to be able to set, and what value it needs. */
export function settingsLine(subject: string, settings: readonly SettingRow[]): Line {
  const check = 'clickhouse_settings';
  const of = (name: string): SettingRow | undefined => settings.find((each) => each.name === name);
  const mend =
    'remove it from the constraints and the profile of this user (users.xml, or ALTER USER ... SETTINGS)';
  if (Number(of('readonly')?.value ?? 0) > 0)
    return failure(check, subject, `readonly is ${of('readonly')?.value}: this user may not insert`, mend);
  for (const [name, wanted] of [
    ['async_insert', '0'],
    ['insert_deduplicate', '1'],
  ] as const) {
    const found = of(name);
    if (found !== undefined && Number(found.readonly) > 0 && found.value !== wanted) {
      const text = `${name} is fixed to ${found.value} for this user, but must be ${wanted}`;
      return failure(check, subject, text, mend);
    }
  }
  if (of('insert_deduplicate')?.value === '0') {
    const text = 'insert_deduplicate is 0: a repeated insert is stored twice';
    return failure(
      check,
      subject,
      text,
      "ALTER USER ... SETTINGS insert_deduplicate = 1, or out of the user's profile",
    );
  }
  const asynchronous =
    of('async_insert')?.value === '1'
      ? 'async_insert is 1, which ESS sets to 0 for its own'
      : 'async_insert is 0';
  return ok(check, subject, `${asynchronous}; insert_deduplicate is 1`);
}

export function stateLines(subject: string, state: NodeState): Line[] {
  const { parts, partsMax, diskFreeBytes, diskTotalBytes } = state;
  const lines: Line[] = [];
  if (parts === null || partsMax === null)
    lines.push(unknown('clickhouse_parts', subject, 'this user may not read system.parts or its limit'));
  else {
    const text = `${counted(parts, 'active part')} in one partition of events; at ${partsMax} inserts are refused`;
    const mend =
      'lower --sink-inserts-per-second, and see what keeps merges (SELECT * FROM system.merges); OPTIMIZE TABLE events, when the load is low';
    if (parts >= partsMax * partsShareMax) lines.push(failure('clickhouse_parts', subject, text, mend));
    else if (parts > partsMax * partsShareCalm) lines.push(warning('clickhouse_parts', subject, text, mend));
    else lines.push(ok('clickhouse_parts', subject, text));
  }
  if (diskFreeBytes === null || diskTotalBytes === null)
    lines.push(unknown('clickhouse_disk', subject, 'this user may not read system.disks'));
  else {
    const mend = 'a larger disk, or less to keep: ALTER TABLE events DROP PARTITION of the oldest month';
    lines.push(spaceLine('clickhouse_disk', subject, diskFreeBytes, diskTotalBytes, mend));
  }
  return lines;
}

async function replicaLines(subject: string, store: Store): Promise<Line[]> {
  const { tables, isCurrent, delayS } = await readReplicaState(store, tableNames, {});
  if (tables === 0) {
    const reason = 'it has no replicated table of ours';
    return [
      unknown('clickhouse_keeper', subject, reason),
      unknown('clickhouse_replica_lag', subject, reason),
    ];
  }
  if (delayS === Number.POSITIVE_INFINITY) {
    const mend =
      'start Keeper (systemctl start clickhouse-keeper) until more than half of them run; a table that stays read-only: SYSTEM RESTORE REPLICA events';
    return [
      failure('clickhouse_keeper', subject, 'no session with Keeper: its tables are read-only', mend),
      unknown('clickhouse_replica_lag', subject, 'without Keeper it cannot tell'),
    ];
  }
  const lines = [ok('clickhouse_keeper', subject, `${counted(tables, 'table')} with a session`)];
  if (isCurrent) return [...lines, ok('clickhouse_replica_lag', subject, 'has everything')];
  const mend =
    'SELECT * FROM system.replication_queue says what it waits for; SYSTEM SYNC REPLICA events waits until it has it';
  const text =
    delayS > 0 ? `${durationText(delayS * 1000)} behind` : 'blocks of its siblings are on their way';
  // For a moment every replica is behind the one that was just written to.
  const isCalm = delayS < replicaLagCalm;
  lines.push(
    isCalm
      ? ok('clickhouse_replica_lag', subject, text)
      : warning('clickhouse_replica_lag', subject, text, mend),
  );
  return lines;
}

function checkOfTables(what: string): CheckId {
  if (what.includes('deduplication_window')) return 'clickhouse_deduplication';
  return what.includes('fsync_') ? 'clickhouse_fsync' : 'clickhouse_tables';
}

/** Lines from the steps of `ess init`: one for each node, for the replicas, and for the layout. */
function tableLines(steps: readonly Step[]): Line[] {
  return steps.flatMap(({ part, state, detail, findings }): Line[] => {
    const isLayout = part === 'clickhouse layout' || part === 'clickhouse replicas';
    const subject = part.replace(/^clickhouse /, '');
    const ids = isLayout
      ? (['clickhouse_layout'] as const)
      : tableChecks.filter((id) => id !== 'clickhouse_layout');
    if (state === 'unreachable') return ids.map((id) => unknown(id, subject, detail));
    const lines = findings.map(({ what, found, wanted, mend }) =>
      failure(
        isLayout ? 'clickhouse_layout' : checkOfTables(what),
        subject,
        `${what} is ${found}, but must be ${wanted}`,
        mend,
      ),
    );
    const isMissing = findings.some(({ found }) => found === 'missing');
    const calm = ids.filter((id) => !lines.some(({ check }) => check === id));
    // Of tables that are not there nothing can be said.
    if (isMissing) return lines;
    return [...lines, ...calm.map((id) => ok(id, subject, detail === '' ? 'as ess init makes it' : detail))];
  });
}
