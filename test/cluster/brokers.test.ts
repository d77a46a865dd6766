// Invariant: whatever becomes of the brokers, every request is answered in time and with the truth, every event that was
// answered 200 is stored exactly once, and ESS goes on by itself as soon as enough brokers are back.

import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Journal } from '../crash/journal.ts';
import { type Answered, load, sendBatch, sendOne } from '../crash/load.ts';
import { type Random, seededRandom, testSeed } from '../crash/random.ts';
import { EssProcess } from '../support/ess_process.ts';
import { type KafkaNode, needsKafka } from '../support/kafka_cluster.ts';
import { ClusterRig, type Flags, type Scope } from './rig.ts';

/** ESS_TEST_LONG=1: brokers stand still for half a minute, and more combinations of two are tried. */
const isLong = process.env['ESS_TEST_LONG'] === '1';
/** How long anything may take on a slow, busy machine, ms. */
const patienceMs = 120_000;
const pollMs = 100;
const httpDeadlineMs = 5_000;
/** ack=store has a second more; the rest is for a machine on which client and server wait for the processor. */
const graceMs = 6_000;
/** Only in the long form: the short one waits until the cluster has noticed, which its brokers' sessions decide. */
const pauseMsMin = isLong ? 30_000 : 0;
/** How long a process has to get its question into the buffers of a broker that stands still, ms. */
const questionMs = 2_000;

const flags: Flags = {
  producers: 2,
  sinks: 2,
  readers: 1,
  'http-deadline-ms': httpDeadlineMs,
  'sink-linger-ms': 20,
  'sink-inserts-per-second': 100,
  'kafka-session-timeout-ms': 6_000,
};

/** What a client may be told while brokers are away; anything else is a bug. */
const troubleCodes: readonly string[] = ['log_unavailable', 'outcome_unknown', 'overloaded'];

const user = { username: 'ess', password: 'right' };

interface Stats {
  readonly epoch: string;
  readonly reasons: readonly string[];
  readonly conservation: { readonly exact: boolean | null; readonly in_flight: number };
  readonly counters: Readonly<Record<string, number>>;
  readonly threads: readonly { readonly name: string; readonly restarts: number }[];
}

interface Probe {
  readonly status: number;
  readonly reasons: readonly string[];
}

describe('brokers of a cluster', needsKafka(), () => {
  const seed = testSeed();
  const random = seededRandom(seed);
  /** Of faults alone: how many numbers the clients draw depends on the machine. */
  const chance = seededRandom(seed + 1);
  let rig: ClusterRig;
  /** Begins first and ends last, since it takes as long as a start waits for brokers. */
  let lonely: Promise<string>;

  before(async () => {
    lonely = failedStart({ 'kafka-brokers': '127.0.0.1:1,127.0.0.1:2' });
    rig = await ClusterRig.start({ sasl: user });
  });
  after(async () => {
    await rig?.dispose();
    await lonely;
  });

  async function withScope(work: (scope: Scope) => Promise<void>): Promise<void> {
    const scope = await rig.scope(flags);
    try {
      await work(scope);
    } finally {
      await scope.end();
      for (const node of rig.kafka.nodes) {
        if (node.isRunning) node.resume();
        else await node.restart();
      }
    }
  }

  test('killed one after another lose nothing, whatever they led', (t) =>
    withScope(async (scope) => {
      const [ingest, sink] = await Promise.all([scope.start('ingest'), scope.start('sink')]);
      const traffic = new Traffic('kills', ingest, random);
      await traffic.flows();
      for (const node of inAnyOrder(rig.kafka.nodes, chance)) {
        await tell(t, scope, node, 'killed');
        await node.kill();
        await traffic.flows();
        await node.restart();
        await untilWhole(scope);
        t.diagnostic(traffic.summary);
      }
      await finish(scope, traffic, [ingest, sink]);
    }));

  test('standing still one after another lose nothing, and are not believed when they go on', (t) =>
    withScope(async (scope) => {
      const [ingest, sink] = await Promise.all([scope.start('ingest'), scope.start('sink')]);
      const traffic = new Traffic('pauses', ingest, random);
      await traffic.flows();
      const order = inAnyOrder(rig.kafka.nodes, chance);
      for (const node of order) {
        await tell(t, scope, node, 'paused');
        const untilMs = Date.now() + pauseMsMin;
        node.pause();
        await traffic.flows();
        await sleep(Math.max(0, untilMs - Date.now()));
        if (isLong || node === order.at(-1)) await believe(scope, traffic, node);
        else node.resume();
        await untilWhole(scope);
        t.diagnostic(traffic.summary);
      }
      await finish(scope, traffic, [ingest, sink]);
    }));

  test('two, or all, away at once: refused in time, told by /readyz, and all is well when they are back', (t) =>
    withScope(async (scope) => {
      const [ingest, sink] = await Promise.all([scope.start('ingest'), scope.start('sink')]);
      const traffic = new Traffic('majority', ingest, random);
      await traffic.flows();
      const { nodes } = rig.kafka;
      const rounds = isLong ? ['kill pause', 'kill kill', 'pause pause', 'kill kill kill'] : ['kill pause'];
      for (const round of [...rounds, 'kill kill kill']) {
        const faults = round.split(' ');
        const gone = inAnyOrder(nodes, chance).slice(0, faults.length);
        t.diagnostic(`${round}: brokers ${gone.map(({ index }) => index).join(', ')}`);
        await Promise.all(gone.map((node, i) => (faults[i] === 'kill' ? node.kill() : node.pause())));
        const { reasons } = await untilProbe(ingest, '/readyz', ({ status }) => status === 503);
        assert.match(reasons.join('; '), /^log: ./, 'the log is named');
        t.diagnostic(reasons.join('; '));
        const known = traffic.answers.length;
        await until('forty refusals', () => traffic.answers.slice(known).filter(isRefusal).length >= 40);
        assert.equal((await probe(ingest, '/healthz')).status, 200);
        assert.equal((await probe(sink, '/readyz')).status, 200, 'a sink takes no events');
        // Starts before they do, and waits for them.
        const late = scope.start('sink');
        late.catch(() => {});
        for (const node of gone) node.resume();
        await Promise.all(gone.filter((node) => !node.isRunning).map((node) => node.restart()));
        await traffic.flows();
        await untilProbe(ingest, '/readyz', ({ status }) => status === 200);
        assert.equal(await (await late).end('SIGTERM'), 0);
        await untilWhole(scope);
        t.diagnostic(traffic.summary);
      }
      await finish(scope, traffic, [ingest, sink]);
    }));

  test('that are not there, or refuse the password, are named by a start that fails', async () => {
    const secured = {
      'kafka-brokers': rig.kafka.listeners.sasl?.join(',') ?? '',
      'kafka-sasl-username': user.username,
    };
    const scope = await rig.scope(flags);
    try {
      const refused = ['plain', 'scram-sha-512'].map((mechanism) =>
        failedStart(
          { ...scope.flags, ...secured, 'kafka-sasl-mechanism': mechanism },
          { ESS_KAFKA_SASL_PASSWORD: 'wrong' },
        ),
      );
      for (const output of await Promise.all(refused))
        assert.match(output, /refuses the user name or password/);
      const ess = await scope.start('all', {
        flags: { ...secured, 'kafka-sasl-mechanism': 'scram-sha-512' },
        env: { ESS_KAFKA_SASL_PASSWORD: user.password },
      });
      const journal = new Journal('password');
      assert.equal(await sendOne(ess, journal.create(), '?ack=store'), 'promised');
      await scope.hold(journal);
    } finally {
      await scope.end();
    }
    assert.match(await lonely, /no Kafka broker answers.*127\.0\.0\.1:1/);
  });

  /**
   * Lets a broker go on that stood still, and has somebody start who knows this one alone: the first questions wait in
   * its buffers, and it answers them before it has heard of anything that happened meanwhile.
   */
  async function believe(scope: Scope, traffic: Traffic, node: KafkaNode): Promise<void> {
    const starting = scope.start('all', { flags: { 'kafka-brokers': node.broker } });
    starting.catch(() => {});
    await sleep(questionMs);
    node.resume();
    const misled = await starting;
    await traffic.flows(misled);
    await wellBeing(misled);
    assert.equal(await misled.end('SIGTERM'), 0);
  }

  /** Says what a broker was when its fault began. */
  async function tell(t: TestContext, { topic, group }: Scope, { index }: KafkaNode, fault: string) {
    const roles = [
      ...((await rig.kafka.coordinatorOf(group)) === index ? ['coordinator'] : []),
      ...((await rig.kafka.controller()) === index ? ['controller'] : []),
      ...((await rig.kafka.leaderOf(topic, 0)) === index ? ['leader of partition 0'] : []),
    ];
    t.diagnostic(`broker ${index} ${fault}${roles.length === 0 ? '' : `: ${roles.join(', ')}`}`);
  }

  /** Every replica is in sync again, so that the next fault is the only one. */
  async function untilWhole({ topic }: Scope): Promise<void> {
    await rig.kafka.untilHealthy(topic);
    await rig.kafka.untilHealthy('__consumer_offsets');
  }
});

/** Clients that go on for as long as the scenario lasts, and what they were told. */
class Traffic {
  readonly journal: Journal;
  readonly answers: Answered[] = [];
  readonly #ess: EssProcess;
  readonly #running: Promise<void>;
  #isOver = false;

  constructor(name: string, ess: EssProcess, random: Random) {
    this.journal = new Journal(name);
    this.#ess = ess;
    const onAnswer = (answered: Answered) => this.answers.push(answered);
    this.#running = load(ess, this.journal, random, () => this.#isOver, {
      clients: 8,
      pauseMs: 20,
      onAnswer,
    });
    this.#running.catch(() => {});
  }

  /** Sends a batch that has events for all partitions, and again what of it was not taken, until all of it is stored. */
  async flows(ess = this.#ess): Promise<void> {
    const untilMs = Date.now() + patienceMs;
    let open = Array.from({ length: 150 }, () => this.journal.create());
    for (;;) {
      await sendBatch(ess, open, '?ack=store');
      open = open.filter((event) => !event.isPromised);
      if (open.length === 0) return;
      assert.ok(
        Date.now() < untilMs,
        `it does not go on: ${this.summary}\n${ess.output.slice(-30).join('')}`,
      );
      await sleep(pollMs);
    }
  }

  /** Ends the load, and sends again what nobody knows about, as a client would, until it is known. */
  async settle(): Promise<void> {
    this.#isOver = true;
    await this.#running;
    const isOpen = ({ outcomes }: { outcomes: ReadonlySet<string> }): boolean =>
      outcomes.has('unknown') && !outcomes.has('promised');
    const untilMs = Date.now() + patienceMs;
    for (;;) {
      const open = this.journal.events.filter(isOpen).slice(0, 500);
      if (open.length === 0) break;
      assert.ok(Date.now() < untilMs, `${open[0]?.id} is never answered`);
      await sendBatch(this.#ess, open, '?ack=log');
    }
    for (const { ms, status, codes } of this.answers) {
      assert.ok(status === 200 || status === 503, `answered ${status} ${codes.join(' ')}`);
      for (const code of codes) assert.ok(troubleCodes.includes(code), code);
      assert.ok(ms < httpDeadlineMs + graceMs, `answered after ${Math.round(ms)} ms`);
    }
    const promised = this.answers.filter(({ status }) => status === 200).length;
    // Most of the time something is broken: this many show that there was a time before and after.
    assert.ok(promised > 50, `only ${promised} requests were answered 200`);
  }

  get summary(): string {
    const counts = new Map<string, number>();
    for (const { status, codes } of this.answers) {
      const key = [status, ...new Set(codes)].join(' ');
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const longestMs = this.answers.reduce((longest, { ms }) => Math.max(longest, ms), 0);
    const told = [...counts].map(([key, count]) => `${key}: ${count}`).join(', ');
    return `longest answer ${Math.round(longestMs)} ms; ${told}`;
  }
}

/** Ends the load and holds everything that was promised; then the processes must be at rest, and well. */
async function finish(scope: Scope, traffic: Traffic, processes: readonly EssProcess[]): Promise<void> {
  await traffic.settle();
  await scope.hold(traffic.journal);
  for (const ess of processes) await wellBeing(ess);
}

/** Waits until a process has nothing to complain of; it must never have lost a thread or its faith in the topic. */
async function wellBeing(ess: EssProcess): Promise<void> {
  const untilMs = Date.now() + patienceMs;
  for (;;) {
    const { reasons, conservation, counters, threads } = await ess.getJson<Stats>('/stats');
    for (const { name, restarts } of threads)
      assert.equal(restarts, 0, `${name} died\n${ess.output.slice(-30).join('')}`);
    assert.equal(counters['log_changes'], 0, 'the topic never changed');
    if (reasons.length === 0 && conservation.exact !== false) break;
    const said = JSON.stringify({ reasons, conservation });
    assert.ok(Date.now() < untilMs, `${said}\n${ess.output.slice(-30).join('')}`);
    await sleep(pollMs);
  }
  assert.doesNotMatch(ess.output.join(''), /halted/, 'no partition gave up');
}

/** What a process that cannot start says. */
async function failedStart(
  start: Readonly<Record<string, string | number>>,
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  try {
    const ess = await EssProcess.start({ flags: start, env });
    await ess.dispose();
  } catch (error) {
    const text = String(error);
    return /ess ended with 1:/.test(text) ? text : `not the end that it should come to: ${text}`;
  }
  return 'it started';
}

async function probe(ess: EssProcess, path: '/readyz' | '/healthz'): Promise<Probe> {
  const response = await fetch(ess.url + path);
  const { reasons = [] } = (await response.json()) as { reasons?: readonly string[] };
  return { status: response.status, reasons };
}

async function untilProbe(
  ess: EssProcess,
  path: '/readyz' | '/healthz',
  holds: (answer: Probe) => boolean,
): Promise<Probe> {
  const untilMs = Date.now() + patienceMs;
  for (;;) {
    const answer = await probe(ess, path);
    if (holds(answer)) return answer;
    assert.ok(
      Date.now() < untilMs,
      `${path} says ${JSON.stringify(answer)}\n${ess.output.slice(-30).join('')}`,
    );
    await sleep(pollMs);
  }
}

function isRefusal({ status }: Answered): boolean {
  return status === 503;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const untilMs = Date.now() + patienceMs;
  while (!holds()) {
    assert.ok(Date.now() < untilMs, `waited in vain for ${what}`);
    await sleep(pollMs);
  }
}

/** A permutation. */
function inAnyOrder<T>(items: readonly T[], chance: Random): T[] {
  return items
    .map((item) => ({ item, order: chance() }))
    .sort((a, b) => a.order - b.order)
    .map(({ item }) => item);
}
