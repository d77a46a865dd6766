// Connections to the brokers of one cluster, for one thread and one purpose: producing, fetching and group membership
// each hold a client of their own, so that a long poll never delays a commit. Runs on the thread that made it. Every
// wait has a deadline: a broker that hangs costs its caller that deadline and its connection, and nobody anything else.
// It never repeats a request: whoever asked knows what a repeat would mean.

import { performance } from 'node:perf_hooks';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import type Broker from 'kafkajs/src/broker/index.js';
import type { Logger } from 'kafkajs/src/network/connectionPool.js';
import { KafkaError, messageOf, noneAnswered, toKafkaError } from './kafka_error.ts';
import { addressOf, Link, type LinkOwner } from './link.ts';
import type { KafkaTarget } from './target.ts';
import type { BrokerView, PartitionView, TopicView } from './topic_view.ts';
import type { WireCall } from './wire/call.ts';
import { type ClusterMetadata, metadataCall } from './wire/metadata.ts';

/** A metadata request that has no answer after this is asked of the next broker as well, ms. */
const hedgeMs = 500;
/** Age up to which `metadata()` answers from memory unless told otherwise, ms. */
const metadataAgeMaxMs = 30_000;
const groupCoordinatorType = 0;

export interface ClientOptions {
  /** Client id as brokers log it: [A-Za-z0-9._-]. */
  readonly name: string;
  /** Bound on one metadata or coordinator look-up over all brokers, ms. */
  readonly requestTimeoutMs: number;
  readonly onLog?: (
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    fields: Record<string, unknown>,
  ) => void;
}

interface Remembered {
  readonly view: TopicView;
  readonly atMs: number;
}

/** See the head of this file. Requests for one broker share one connection to it and are answered in order. */
export class KafkaClient implements LinkOwner {
  readonly target: KafkaTarget;
  readonly name: string;
  readonly logger: Logger;
  readonly tls: TlsOptions | null;
  readonly #requestTimeoutMs: number;
  /** By address: what is sent to a broker by its node id. */
  readonly #links = new Map<string, Link>();
  /**
   * By address: questions to any broker. Apart from the others, because a broker answers a connection's requests in
   * order: metadata asked behind an append that waits for replicas would come after it.
   */
  readonly #controlLinks = new Map<string, Link>();
  readonly #addresses = new Map<number, string>();
  readonly #views = new Map<string, Remembered>();
  readonly #asking = new Map<string, Promise<TopicView>>();
  /** By topic: the latest that is known of each partition, which `forget` leaves alone. */
  readonly #latest = new Map<string, Pick<TopicView, 'topicId' | 'partitions'>>();
  /** What `close` has to reject. */
  readonly #waiting = new Set<() => void>();
  #lastAnswering: Link | null = null;
  #isClosed = false;

  /** No I/O. */
  constructor(target: KafkaTarget, options: ClientOptions) {
    this.target = target;
    this.name = options.name;
    this.#requestTimeoutMs = options.requestTimeoutMs;
    const onLog = options.onLog;
    const tell = (message: string, extra: Record<string, unknown> = {}) => {
      const { stack: _, ...fields } = extra;
      onLog?.('debug', message, { client: options.name, ...fields });
    };
    // kafkajs's debug lines are one per request, with the request in it: they go nowhere.
    const logger: Logger = { namespace: () => logger, debug: () => {}, info: tell, warn: tell, error: tell };
    this.logger = logger;
    const { tls } = target;
    this.tls =
      tls === null
        ? null
        : {
            ...(tls.ca === '' ? {} : { ca: tls.ca }),
            ...(tls.cert === '' ? {} : { cert: tls.cert }),
            ...(tls.key === '' ? {} : { key: tls.key }),
          };
  }

  /**
   * The topic (the target's, unless another is named) and the brokers, from memory if not older than `maxAgeMs`
   * (default 30,000), else from whichever broker answers first. Callers at the same time share one question. Rejects
   * with KafkaError: `protocol` with Kafka's code (3: there is no such topic), else why no broker answered.
   */
  async metadata(
    maxAgeMs = metadataAgeMaxMs,
    signal?: AbortSignal,
    topic: string = this.target.topic,
  ): Promise<TopicView> {
    const known = this.#views.get(topic);
    if (known !== undefined && performance.now() - known.atMs < maxAgeMs) return known.view;
    let asking = this.#asking.get(topic);
    if (asking === undefined) {
      asking = this.#ask(topic).finally(() => this.#asking.delete(topic));
      this.#asking.set(topic, asking);
    }
    if (signal === undefined) return asking;
    return abortable(asking, signal);
  }

  /** The next `metadata()` asks anew, for every topic, and not of the broker that answered last: it may lag. */
  forget(): void {
    this.#views.clear();
    this.#lastAnswering = null;
  }

  /** Takes addresses from another client's metadata, so that this one need not ask for them. */
  learn(brokers: readonly BrokerView[]): void {
    for (const { nodeId, host, port } of brokers) this.#addresses.set(nodeId, addressOf(host, port));
  }

  /** Opens the connection to a broker if there is none, within `timeoutMs`: rejects with KafkaError, never sent. */
  async reach(nodeId: number, timeoutMs: number): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    await (await this.#linkOf(nodeId, deadlineMs)).reach(deadlineMs);
  }

  /** True if a request to this broker needs no new connection. */
  isOpen(nodeId: number): boolean {
    const address = this.#addresses.get(nodeId);
    return address !== undefined && (this.#links.get(address)?.isOpen ?? false);
  }

  /** True if requests to this broker would have to wait, because it could not be reached a moment ago. */
  isBackingOff(nodeId: number): boolean {
    const address = this.#addresses.get(nodeId);
    return address !== undefined && (this.#links.get(address)?.isBackingOff ?? false);
  }

  /**
   * Sends one request once. 'any' takes the next broker only as long as nothing was sent. Rejects with KafkaError at
   * the latest `timeoutMs` after the call; a connection whose answer is late is destroyed.
   */
  async send<T>(nodeId: number | 'any', call: WireCall<T>, timeoutMs: number): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    if (nodeId !== 'any') return (await this.#linkOf(nodeId, deadlineMs)).exchange(call, deadlineMs);
    return this.#onAny((link) => link.exchange(call, deadlineMs), deadlineMs);
  }

  /**
   * Requests that kafkajs encodes. An error of Kafka's arrives as KafkaError `protocol` with its code and kafkajs's
   * error as the cause. Past `timeoutMs` it rejects and the connection is destroyed.
   */
  async withBroker<T>(
    nodeId: number | 'any',
    timeoutMs: number,
    work: (broker: Broker) => Promise<T>,
  ): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    if (nodeId !== 'any') return (await this.#linkOf(nodeId, deadlineMs)).use(work, deadlineMs);
    return this.#onAny((link) => link.use(work, deadlineMs), deadlineMs);
  }

  /** Node id of the broker that keeps this consumer group. Rejects with KafkaError, code 15 while there is none. */
  async coordinator(group: string, timeoutMs: number): Promise<number> {
    const deadlineMs = performance.now() + timeoutMs;
    const { coordinator } = await this.#hedged(
      (link) =>
        link.use(
          (broker) => broker.findGroupCoordinator({ groupId: group, coordinatorType: groupCoordinatorType }),
          deadlineMs,
        ),
      deadlineMs,
    );
    this.#addresses.set(coordinator.nodeId, addressOf(coordinator.host, coordinator.port));
    return coordinator.nodeId;
  }

  /** Ends every connection at once and rejects what waits with kind `closed`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const reject of [...this.#waiting]) reject();
    const error = new KafkaError('closed', true, 'the client was closed');
    for (const link of [...this.#links.values(), ...this.#controlLinks.values()]) link.end(error);
    this.#links.clear();
    this.#controlLinks.clear();
  }

  /**
   * Settles as `work` does, or rejects after `ms` or at `close`, whichever is first. `work` itself goes on, unheard.
   */
  bounded<T>(
    work: Promise<T>,
    ms: number,
    late: () => KafkaError,
    isSent: () => boolean = () => false,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(close);
      };
      const fail = (error: unknown) => {
        end();
        reject(error);
      };
      const close = () => fail(new KafkaError('closed', isSent(), 'the client was closed'));
      const timer = setTimeout(() => fail(late()), Math.max(ms, 0));
      work.then((value) => {
        end();
        resolve(value);
      }, fail);
      if (this.#isClosed) close();
      else this.#waiting.add(close);
    });
  }

  async #ask(topic: string): Promise<TopicView> {
    const deadlineMs = performance.now() + this.#requestTimeoutMs;
    const call = metadataCall([topic]);
    const answer: ClusterMetadata = await this.#hedged((link) => link.exchange(call, deadlineMs), deadlineMs);
    this.#learn(answer);
    const found = answer.topics.find(({ name }) => name === topic);
    if (found === undefined)
      throw new KafkaError('protocol', true, `the answer about topic ${topic} does not have it`);
    if (found.errorCode !== 0) {
      throw new KafkaError('protocol', true, `topic ${topic}: Kafka error ${found.errorCode}`, {
        protocolCode: found.errorCode,
      });
    }
    const told = [...found.partitions].sort((a, b) => a.partition - b.partition);
    if (told.some(({ partition }, index) => partition !== index))
      throw new KafkaError('protocol', true, `topic ${topic}: its partitions are not numbered without gaps`);
    const { brokers, controllerId } = answer;
    const latest = this.#latest.get(topic);
    const known = latest?.topicId === found.topicId ? latest.partitions : [];
    // A broker that stood still tells of leaders of before, and who has heard of a later one does not believe it.
    const partitions = told.map((view, i): PartitionView => {
      const before = known[i];
      return before !== undefined && before.leaderEpoch > view.leaderEpoch ? before : view;
    });
    this.#latest.set(topic, { topicId: found.topicId, partitions });
    const view: TopicView = { topicId: found.topicId, brokers, controllerId, partitions };
    this.#views.set(topic, { view, atMs: performance.now() });
    return view;
  }

  #learn({ brokers }: ClusterMetadata): void {
    this.learn(brokers);
    const listed = new Set([...this.target.brokers, ...this.#addresses.values()]);
    // An address that left the cluster keeps no connection, but what is under way on it may still be answered.
    for (const links of [this.#links, this.#controlLinks]) {
      for (const [address, link] of links) {
        if (listed.has(address) || !link.isIdle) continue;
        links.delete(address);
        link.end(new KafkaError('unreachable', true, `${address} left the cluster`));
      }
    }
  }

  async #linkOf(nodeId: number, deadlineMs: number): Promise<Link> {
    if (!this.#addresses.has(nodeId)) {
      await this.bounded(
        this.metadata(0).catch((error: unknown) => {
          // The brokers were learnt even if the topic is not there.
          if (!(error instanceof KafkaError) || error.kind !== 'protocol') throw error;
        }),
        deadlineMs - performance.now(),
        () => new KafkaError('unreachable', false, `no broker tells the address of broker ${nodeId}`),
      ).catch((error: unknown) => {
        const kind = error instanceof KafkaError && error.kind !== 'timeout' ? error.kind : 'unreachable';
        throw new KafkaError(kind, false, messageOf(error), { cause: error });
      });
    }
    const address = this.#addresses.get(nodeId);
    if (address === undefined)
      throw new KafkaError('unreachable', false, `broker ${nodeId} is not in the cluster`);
    return this.#link(this.#links, address);
  }

  #link(links: Map<string, Link>, address: string): Link {
    if (this.#isClosed) throw new KafkaError('closed', false, 'the client was closed');
    let link = links.get(address);
    if (link === undefined) {
      link = new Link(this, address);
      links.set(address, link);
    }
    return link;
  }

  /** Brokers to ask, the most promising first: the last that answered, those with a connection, those not failing. */
  #candidates(): Link[] {
    const addresses = new Set([...this.#addresses.values(), ...this.target.brokers]);
    const links = [...addresses].map((address) => this.#link(this.#controlLinks, address));
    const rank = (link: Link): number => {
      if (link.isOpen) return link === this.#lastAnswering ? 0 : 1;
      return link.isBackingOff ? 3 : 2;
    };
    return links
      .map((link) => ({ link, order: rank(link) + Math.random() / 2 }))
      .sort((a, b) => a.order - b.order)
      .map(({ link }) => link);
  }

  /** For questions that change nothing: asks one broker after another, and the next as well if one takes long. */
  #hedged<T>(ask: (link: Link) => Promise<T>, deadlineMs: number): Promise<T> {
    const links = this.#candidates();
    const asked = new Promise<T>((resolve, reject) => {
      const failures: KafkaError[] = [];
      let next = 0;
      let isDone = false;
      let timer: NodeJS.Timeout | undefined;
      const start = () => {
        clearTimeout(timer);
        const link = links[next];
        if (isDone || link === undefined) return;
        next += 1;
        if (next < links.length) timer = setTimeout(start, hedgeMs);
        ask(link).then(
          (answer) => {
            isDone = true;
            clearTimeout(timer);
            this.#lastAnswering = link;
            resolve(answer);
          },
          (error: unknown) => {
            failures.push(toKafkaError(error, true, link.address));
            if (failures.length < links.length) {
              start();
              return;
            }
            isDone = true;
            reject(noneAnswered(failures));
          },
        );
      };
      start();
    });
    return this.bounded(
      asked,
      deadlineMs - performance.now(),
      () => new KafkaError('unreachable', true, `none of ${this.target.brokers.join(', ')} answered in time`),
    );
  }

  /** For requests that must not be made twice: the next broker only while nothing was sent. */
  async #onAny<T>(ask: (link: Link) => Promise<T>, deadlineMs: number): Promise<T> {
    const failures: KafkaError[] = [];
    for (const link of this.#candidates()) {
      try {
        const answer = await ask(link);
        this.#lastAnswering = link;
        return answer;
      } catch (error) {
        const failure = toKafkaError(error, true, link.address);
        if (failure.isSent || failure.kind === 'closed') throw failure;
        failures.push(failure);
        if (performance.now() >= deadlineMs) break;
      }
    }
    throw noneAnswered(failures);
  }
}

function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(new KafkaError('closed', true, 'no longer wanted', { cause: signal.reason }));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
