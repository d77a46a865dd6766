// Invariant: whatever goes wrong, all at once and in any order, every event that was answered 200 is stored exactly once
// or is a dead letter, and when everything is well again the system is, too, by itself. Never two brokers at a time: that
// is what an answer of 200 does not promise to outlive.
//
// Three schedules run beside each other, of brokers, of ClickHouse nodes and of ESS processes. Each is a pure function of
// the seed (how far it comes is not): ESS_TEST_SEED replays them, ESS_TEST_CHAOS_SECONDS lets them go on for longer.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Journal, poison } from '../crash/journal.ts';
import { load, sendOne } from '../crash/load.ts';
import { between, pick, type Random, seededRandom, testSeed } from '../crash/random.ts';
import type { ClickHouseNode, Fault } from '../support/clickhouse_node.ts';
import type { EssProcess } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { ClusterRig, type Flags, type Scope } from './rig.ts';

const chaosMs = Number(process.env['ESS_TEST_CHAOS_SECONDS'] ?? '40') * 1000;
/** How long anything may take on a slow, busy machine, ms. */
const patienceMs = 180_000;
const pollMs = 100;
const partitions = 12;
const brokers = 3;
const shards = 2;
const replicas = 2;
const sinksMax = 3;

/** Small blocks and short limits, so that much happens in a short time. */
const flags: Flags = {
  partitions,
  producers: 1,
  sinks: 2,
  readers: 1,
  'sink-linger-ms': 20,
  'sink-batch-rows-max': 200,
  'sink-inserts-per-second': 100,
  'kafka-session-timeout-ms': 6_000,
  'clickhouse-request-timeout-ms': 1_000,
  'http-deadline-ms': 3_000,
};

describe('everything at once', needsKafka(), () => {
  const seed = testSeed();
  let rig: ClusterRig;

  before(async () => {
    rig = await ClusterRig.start({ brokers, shards, replicas });
  });
  after(() => rig?.dispose());

  test('a schedule is a pure function of the seed', () => {
    for (const steps of Object.values(schedules)) {
      const some = (): string[] => {
        const schedule = steps(seededRandom(seed));
        return Array.from({ length: 200 }, () => {
          const { pauseMs, text } = schedule.next().value;
          return `${pauseMs} ${text}`;
        });
      };
      assert.deepEqual(some(), some());
    }
  });

  test('loses nothing, doubles nothing, and ends', async () => {
    const scope = await rig.scope(flags);
    const world = new World(rig, scope);
    try {
      await world.begin();
      const traffic = new Traffic(world, seededRandom(seed));
      const untilMs = Date.now() + chaosMs;
      await Promise.all(
        Object.entries(schedules).map(([name, steps], i) =>
          world.follow(name, steps(seededRandom(seed + 1 + i)), untilMs),
        ),
      );
      world.say('all', 'repair');
      await world.repair();
      world.say('all', 'repaired');
      await traffic.settle();
      world.say('all', `${traffic.journal.events.length} events were sent, and are known`);
      await scope.hold(traffic.journal, patienceMs);
      await world.untilWell();
      const [reader] = world.ingests;
      assert.ok(reader !== undefined);
      await traffic.journal.checkReads(reader);
      world.say('all', 'held');
    } finally {
      await scope.end();
    }
  });
});

// ---- what happens when ------------------------------------------------------------------------------------------------

interface Step {
  /** Before it, ms. */
  readonly pauseMs: number;
  readonly text: string;
  /** Ends when what was broken is whole again, if it is not left to a later step. */
  readonly run: (world: World) => Promise<void>;
}

type Schedule = Generator<Step, never>;

const schedules: Readonly<Record<string, (random: Random) => Schedule>> = {
  brokers: brokerSteps,
  nodes: nodeSteps,
  processes: processSteps,
};

/** One broker at a time, and the next one when all replicas are in sync again. */
function* brokerSteps(random: Random): Schedule {
  for (;;) {
    const pauseMs = between(random, 500, 4000);
    const broker = between(random, 0, brokers - 1);
    const holdMs = between(random, 500, 8000);
    const partition = between(random, 0, partitions - 1);
    const kind = pick(random, ['kill', 'kill', 'stop', 'pause', 'pause', 'move', 'move'] as const) ?? 'kill';
    if (kind === 'move') {
      const text = `partition ${partition} to broker ${broker}`;
      yield { pauseMs, text, run: ({ rig, scope }) => rig.kafka.moveLeader(scope.topic, partition, broker) };
      continue;
    }
    yield {
      pauseMs,
      text: `${kind} broker ${broker} for ${holdMs} ms`,
      run: async (world) => {
        const node = world.rig.kafka.node(broker);
        if (kind === 'pause') node.pause();
        else await node[kind]();
        await sleep(holdMs);
        if (kind === 'pause') node.resume();
        else await node.restart();
        await world.untilInSync();
      },
    };
  }
}

/** Codes of ClickHouse that may go away: clear refusals, and such that leave open what became of the block. */
const codes = [159, 202, 210, 241, 242, 252, 319, 394, 999] as const;

function* nodeSteps(random: Random): Schedule {
  for (;;) {
    const pauseMs = between(random, 100, 2500);
    const shard = between(random, 0, shards - 1);
    const holdMs = between(random, 200, 6000);
    const faults: readonly Fault[] = [
      'hang',
      'drop_before',
      'drop_after',
      'down',
      { reject: pick(random, codes) ?? 241 },
      // Some land after the sink has given them up.
      { delay: between(random, 100, 3000) },
    ];
    const fault = pick(random, faults) ?? 'hang';
    const kind = pick(random, ['one', 'one', 'all', 'inserts', 'inserts', 'kill', 'pause', 'lag'] as const);
    const replica = between(random, 0, replicas - 1);
    const inserts = between(random, 1, 20);
    const step = (text: string, run: (node: ClickHouseNode) => Promise<void>): Step => ({
      pauseMs,
      text: `shard ${shard}: ${text}`,
      run: ({ rig }) => {
        const node = rig.nodes[shard];
        assert.ok(node !== undefined);
        return run(node);
      },
    });
    const name = JSON.stringify(fault);
    switch (kind) {
      case 'kill':
        yield step(`kill for ${holdMs} ms`, async (node) => {
          await node.kill();
          await sleep(holdMs);
          await node.restart();
        });
        break;
      case 'pause':
        yield step(`pause for ${holdMs} ms`, async (node) => {
          node.pause();
          await sleep(holdMs);
          node.resume();
        });
        break;
      case 'lag':
        yield step(`replica ${replica} is behind for ${holdMs} ms`, async (node) => {
          await node.setState(replica, { absoluteDelay: 60, insertsInQueue: 3 });
          await sleep(holdMs);
          await node.setState(replica, {});
        });
        break;
      case 'inserts':
        if (fault === 'down') break;
        yield step(`replica ${replica}: ${name} for ${inserts} inserts`, async (node) => {
          await node.setFault(replica, fault, inserts);
        });
        break;
      default: {
        const struck = kind === 'all' ? [...Array(replicas).keys()] : [replica];
        yield step(`replicas ${struck}: ${name} for ${holdMs} ms`, async (node) => {
          for (const each of struck) await node.setFault(each, fault);
          await sleep(holdMs);
          for (const each of struck) await node.setFault(each, 'none');
        });
      }
    }
  }
}

function* processSteps(random: Random): Schedule {
  let sinks = 2;
  for (;;) {
    const pauseMs = between(random, 200, 2500);
    const holdMs = between(random, 0, 3000);
    const sleepMs = between(random, 200, 10_000);
    const ingest = between(random, 0, 1);
    const sink = between(random, 0, sinks - 1);
    const isOrderly = random() < 0.4;
    const signal = isOrderly ? 'SIGTERM' : 'SIGKILL';
    const kind = pick(random, ['ingest', 'sink', 'sink', 'pause', 'pause', 'add', 'remove'] as const);
    if (kind === 'ingest') {
      yield {
        pauseMs,
        text: `ingest ${ingest} ${signal}`,
        run: async (world) => {
          await world.ingests[ingest]?.end(signal);
          world.ingests[ingest] = await world.start('ingest');
        },
      };
    } else if (kind === 'pause') {
      yield {
        pauseMs,
        text: `sink ${sink} stands still for ${sleepMs} ms`,
        run: async ({ sinks: running }) => {
          running[sink]?.child.kill('SIGSTOP');
          await sleep(sleepMs);
          running[sink]?.child.kill('SIGCONT');
        },
      };
    } else if (kind === 'add' && sinks < sinksMax) {
      sinks += 1;
      yield {
        pauseMs,
        text: 'one more sink',
        run: async (world) => {
          world.sinks.push(await world.start('sink'));
        },
      };
    } else if (kind === 'remove' && sinks > 1) {
      sinks -= 1;
      yield {
        pauseMs,
        text: `sink ${sink} ${signal} for good`,
        run: async ({ sinks: running }) => {
          const [removed] = running.splice(sink, 1);
          await removed?.end(signal);
        },
      };
    } else {
      yield {
        pauseMs,
        text: `sink ${sink} ${signal}, another after ${holdMs} ms`,
        run: async (world) => {
          await world.sinks[sink]?.end(signal);
          await sleep(holdMs);
          world.sinks[sink] = await world.start('sink');
        },
      };
    }
  }
}

// ---- where it happens -------------------------------------------------------------------------------------------------

interface Stats {
  readonly reasons: readonly string[];
  readonly conservation: { readonly exact: boolean | null; readonly in_flight: number };
  readonly threads: readonly { readonly name: string; readonly restarts: number }[];
}

class World {
  readonly rig: ClusterRig;
  readonly scope: Scope;
  readonly ingests: EssProcess[] = [];
  readonly sinks: EssProcess[] = [];
  readonly #startMs = Date.now();

  constructor(rig: ClusterRig, scope: Scope) {
    this.rig = rig;
    this.scope = scope;
  }

  say(who: string, text: string): void {
    console.log(`${((Date.now() - this.#startMs) / 1000).toFixed(1).padStart(6)} s  ${who}: ${text}`);
  }

  async begin(): Promise<void> {
    for (const store of await this.scope.openStores()) {
      await store.command(
        `ALTER TABLE events ADD CONSTRAINT no_poison CHECK position(body, '${poison}') = 0`,
      );
      await store.close();
    }
    this.ingests.push(await this.start('ingest'), await this.start('ingest'));
    this.sinks.push(await this.start('sink'), await this.start('sink'));
  }

  /** Starts a process as a supervisor does: again, if it ends because what it needs is not there. */
  async start(role: 'ingest' | 'sink'): Promise<EssProcess> {
    const untilMs = Date.now() + patienceMs;
    for (;;) {
      try {
        return await this.scope.start(role);
      } catch (error) {
        if (Date.now() > untilMs) throw error;
        this.say('processes', `${role} does not start: ${String(error).slice(-400)}`);
      }
      await sleep(pollMs);
    }
  }

  async follow(name: string, schedule: Schedule, untilMs: number): Promise<void> {
    for (;;) {
      const { pauseMs, text, run } = schedule.next().value;
      if (Date.now() + pauseMs > untilMs) return;
      await sleep(pauseMs);
      this.say(name, text);
      await run(this);
    }
  }

  async untilInSync(): Promise<void> {
    const { kafka } = this.rig;
    const { topic } = this.scope;
    for (const name of [topic, `${topic}-dead-letters`, '__consumer_offsets']) await kafka.untilHealthy(name);
  }

  async repair(): Promise<void> {
    for (const node of this.rig.kafka.nodes) {
      node.resume();
      if (!node.isRunning) await node.restart();
    }
    for (const node of this.rig.nodes) {
      node.resume();
      for (const replica of node.urls.keys()) {
        await node.setFault(replica, 'none');
        await node.setState(replica, {});
      }
    }
    await this.untilInSync();
  }

  /** Every process that is left says so of itself, and none of its threads died. */
  async untilWell(): Promise<void> {
    const untilMs = Date.now() + patienceMs;
    for (const ess of [...this.ingests, ...this.sinks]) {
      for (;;) {
        const { reasons, conservation, threads } = await ess.getJson<Stats>('/stats');
        for (const { name, restarts } of threads)
          assert.equal(restarts, 0, `${name}\n${ess.output.join('')}`);
        if (reasons.length === 0 && conservation.in_flight === 0 && conservation.exact !== false) break;
        const said = JSON.stringify({ reasons, conservation });
        assert.ok(Date.now() < untilMs, `never well: ${said}\n${ess.output.slice(-30).join('')}`);
        await sleep(pollMs);
      }
    }
  }
}

/** Clients that go on for as long as the chaos lasts, with whichever ingest takes events. */
class Traffic {
  readonly journal = new Journal('chaos');
  readonly #world: World;
  readonly #running: Promise<unknown>;
  #isOver = false;

  constructor(world: World, random: Random) {
    this.#world = world;
    const options = { clients: 5, poisonShare: 0.005, pauseMs: 5 };
    this.#running = Promise.all(
      [0, 1].map(async (index) => {
        while (!this.#isOver) {
          const ess = world.ingests[index];
          if (ess !== undefined) await load(ess, this.journal, random, () => this.#isOver, options);
          await sleep(pollMs);
        }
      }),
    );
    this.#running.catch(() => {});
  }

  /** Ends the load, and sends again what nobody knows about, as a client would, until it is known. */
  async settle(): Promise<void> {
    this.#isOver = true;
    await this.#running;
    const [ess] = this.#world.ingests;
    assert.ok(ess !== undefined);
    const untilMs = Date.now() + patienceMs;
    const isOpen = ({ outcomes }: { readonly outcomes: ReadonlySet<string> }): boolean =>
      outcomes.has('unknown') && !outcomes.has('promised') && !outcomes.has('parked');
    const open = this.journal.events.filter(isOpen);
    this.#world.say('all', `${open.length} of ${this.journal.events.length} events are sent again`);
    const client = async (): Promise<void> => {
      for (let event = open.pop(); event !== undefined; event = open.pop()) {
        while (isOpen(event)) {
          assert.ok(Date.now() < untilMs, `${event.id} is never answered`);
          await sendOne(ess, event, '?ack=log');
        }
      }
    };
    await Promise.all(Array.from({ length: 16 }, client));
    const promised = this.journal.events.filter((event) => event.isPromised).length;
    assert.ok(promised > 500, `only ${promised} events were answered 200`);
  }
}
