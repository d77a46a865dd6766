// ClickHouse's part of `ess init`: database and tables on every node, whether replicas are replicas of each other, and
// the recorded layout of the shards. Runs on the main thread.

import type { ClickhouseNode } from '../../config/clickhouse.ts';
import { openStore } from '../../store/client.ts';
import { compareReplicas } from '../../store/migrate.ts';
import { quoteIdentifier } from '../../store/query_params.ts';
import { tableKind } from '../../store/schema.ts';
import { type HttpTarget, type Store, StoreError } from '../../store/store.ts';
import { type FindObstacle, type LayoutNode, settleLayout } from './layout.ts';
import { type Patience, reasonOf } from './patience.ts';
import { type Step, stepOf } from './step.ts';
import { findingOf, type Mode, settleTables } from './tables.ts';

/** ClickHouse's error number for a database that is not there. */
const unknownDatabase = 81;
/** A database that every node has, from which others can be made. */
const systemDatabase = 'system';

/** A node that answers. */
interface Node {
  readonly name: string;
  readonly target: HttpTarget;
  readonly hasDatabase: boolean;
}

/**
 * Settles every node, by shard and replica; gives a step for each, one for the replicas if there are any, and one for
 * the layout if any node has its tables. `findObstacle` is asked before shards are added to it.
 */
export async function settleClickhouse(
  shards: readonly (readonly ClickhouseNode[])[],
  mode: Mode,
  patience: Patience,
  findObstacle: FindObstacle,
): Promise<Step[]> {
  // All are waited for at once, since they share the time; then one after the other, since replicas that are made
  // at the same time stand in each other's way in Keeper.
  const reached = await Promise.all(
    shards.map((replicas) => Promise.all(replicas.map((node) => reach(node, patience)))),
  );
  const steps: Step[] = [];
  const settled: Store[][] = [];
  try {
    for (const replicas of reached) {
      const stores: Store[] = [];
      settled.push(stores);
      for (const node of replicas) {
        if ('state' in node) {
          steps.push(node);
          continue;
        }
        const { step, store } = await settleNode(node, replicas.length, mode);
        steps.push(step);
        if (store !== null) stores.push(store);
      }
    }
    // Needs two at least to be compared.
    if (settled.some((stores) => stores.length > 1)) {
      steps.push(await replicasStep(settled, shards.flat().length));
    }
    const nodes = settled.flatMap((stores, shard) => stores.map((store): LayoutNode => ({ store, shard })));
    if (nodes.length > 0) {
      const wanted = { shards: shards.length, nodes: shards.flat().length };
      steps.push(await settleLayout(nodes, wanted, mode, findObstacle));
    }
  } finally {
    await Promise.all(settled.flat().map((store) => store.close()));
  }
  return steps;
}

async function reach(node: ClickhouseNode, patience: Patience): Promise<Node | Step> {
  const target = targetOf(node);
  const name = `clickhouse ${new URL(node.url).host}`;
  try {
    return await patience.until(name, async (timeoutMs) => {
      const hasDatabase = await isAnswering(target, timeoutMs);
      if (!hasDatabase) await isAnswering({ ...target, database: systemDatabase }, timeoutMs);
      return { name, target, hasDatabase };
    });
  } catch (error) {
    return { part: name, state: 'unreachable', detail: reasonOf(error), findings: [] };
  }
}

/** False if the database is not there; rejects if the node does not answer or does not let us in. */
async function isAnswering(target: HttpTarget, timeoutMs: number): Promise<boolean> {
  const store = await openStore(target, { requestTimeoutMs: timeoutMs });
  try {
    await store.rows('SELECT 1');
    return true;
  } catch (error) {
    if (error instanceof StoreError && error.code === unknownDatabase) return false;
    throw error;
  } finally {
    await store.close();
  }
}

/** Gives the store too if its tables are there. */
async function settleNode(
  { name, target, hasDatabase }: Node,
  replicas: number,
  mode: Mode,
): Promise<{ readonly step: Step; readonly store: Store | null }> {
  const database = `database ${target.database}`;
  if (!hasDatabase) {
    const refusal = mode === 'check' ? '' : await makeDatabase(target);
    if (refusal !== null) {
      const mend = refusal === '' ? 'ess init' : `${createDatabase(target)} (tried; ${refusal})`;
      const breaks = 'ack=store: nothing can be stored here';
      const finding = { what: database, found: 'missing', wanted: 'a database', breaks, mend };
      return { step: stepOf(name, [finding], 'as_wanted'), store: null };
    }
  }
  const store = await openStore(target);
  try {
    const outcome = await settleTables(store, tableKind(replicas), mode);
    const made = [...(hasDatabase ? [] : [database]), ...outcome.made];
    const details = [
      ...(made.length > 0 ? [`made: ${made.join(', ')}`] : []),
      ...(outcome.changed.length > 0 ? [`changed: ${outcome.changed.join(', ')}`] : []),
    ];
    const otherwise = outcome.changed.length > 0 ? 'changed' : made.length > 0 ? 'made' : 'as_wanted';
    const detail = details.length > 0 ? details.join('; ') : database;
    return { step: stepOf(name, outcome.findings, otherwise, detail), store };
  } catch (error) {
    await store.close();
    return { step: { part: name, state: 'unreachable', detail: reasonOf(error), findings: [] }, store: null };
  }
}

/** Null if it is there now, else why not. */
async function makeDatabase(target: HttpTarget): Promise<string | null> {
  const store = await openStore({ ...target, database: systemDatabase });
  try {
    await store.command(createDatabase(target));
    return null;
  } catch (error) {
    return reasonOf(error);
  } finally {
    await store.close();
  }
}

function createDatabase({ database }: HttpTarget): string {
  return `CREATE DATABASE IF NOT EXISTS ${quoteIdentifier(database)}`;
}

/** Whether the nodes with tables are replicas of each other as the option says; `nodes` is the number of all. */
async function replicasStep(stores: readonly (readonly Store[])[], nodes: number): Promise<Step> {
  const part = 'clickhouse replicas';
  const asked = stores.flat().length;
  try {
    const differences = await compareReplicas(stores);
    const detail = asked === nodes ? '' : `as far as ${asked} of ${nodes} nodes can tell`;
    return stepOf(
      part,
      differences.map((difference) => findingOf(difference)),
      'as_wanted',
      detail,
    );
  } catch (error) {
    return { part, state: 'unreachable', detail: reasonOf(error), findings: [] };
  }
}

/** How to open a store on a node. */
export function targetOf({ url, user, password, database, tlsCa, compression }: ClickhouseNode): HttpTarget {
  return {
    kind: 'http',
    url,
    user,
    password,
    database,
    tls: tlsCa === '' ? null : { ca: tlsCa },
    isCompressed: compression === 'gzip',
  };
}
