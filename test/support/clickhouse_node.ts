// A ClickHouse node for tests: HTTP over chDB in a process of its own, with one or two ports over the same engine that
// stand for the replicas of one shard, and faults for each of them. A test starts it, aims stores at `urls` and
// disposes of it; the process ends with the one that started it, however that one ends.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { HttpTarget } from '../../src/store/store.ts';

/** What is wrong with a replica. */
export type Fault =
  | 'none'
  /** Takes requests and never answers. */
  | 'hang'
  /** Closes the connection instead of executing. */
  | 'drop_before'
  /** Executes, then closes the connection without an answer. */
  | 'drop_after'
  /** The same, but an error is told. */
  | 'drop_success'
  /** The port is closed, and every connection with it. */
  | 'down'
  /** Answers with this error of ClickHouse and executes nothing. */
  | { readonly reject: number }
  /** Waits before it executes, ms. */
  | { readonly delay: number };

/** What system.replicas of a replica is to say of all its tables. */
export interface ReplicaState {
  /** Seconds behind its siblings. */
  readonly absoluteDelay: number;
  /** Blocks of its siblings that it has still to fetch. */
  readonly insertsInQueue: number;
  /** No connection to Keeper: it cannot tell how far it is behind. */
  readonly isReadonly: boolean;
}

/** An INSERT with data that a replica was sent since its process began. */
export interface ReceivedInsert {
  readonly table: string;
  readonly token: string;
  /** False if it was kept from the engine by a fault, or the engine refused it. */
  readonly isDone: boolean;
}

export interface NodeOptions {
  /** Default 1. */
  readonly replicas?: 1 | 2;
  /** Default "default". */
  readonly user?: string;
  /** Default "". */
  readonly password?: string;
  /** Pretend that the tables are replicated (see clickhouse_node.worker.ts). Default false. */
  readonly isReplicated?: boolean;
  /** Value of the macro `shard`; the macro `replica` is r1, r2. Both are there only if `isReplicated`. Default "01". */
  readonly shard?: string;
  /** The address that it listens on. Default 127.0.0.1; 0.0.0.0 only in a network of its own. */
  readonly host?: string;
}

/** What the process is started with. */
export interface NodeOrders {
  readonly path: string;
  /** Where INSERT bodies lie while the engine reads them. */
  readonly spool: string;
  /** One for each replica; 0 takes a free one. */
  readonly ports: readonly number[];
  readonly user: string;
  readonly password: string;
  readonly isReplicated: boolean;
  readonly shard: string;
  readonly host: string;
}

/** From the test to the process. `inserts`: only the next so many INSERTs with data are struck; null: every request. */
export type NodeRequest =
  | {
      readonly type: 'fault';
      readonly id: number;
      readonly replica: number;
      readonly fault: Fault;
      readonly inserts: number | null;
    }
  | {
      readonly type: 'state';
      readonly id: number;
      readonly replica: number;
      readonly state: ReplicaState;
    }
  | { readonly type: 'inserts'; readonly id: number; readonly replica: number };

/** From the process to the test. */
export type NodeMessage =
  | { readonly type: 'ready'; readonly ports: readonly number[] }
  | { readonly type: 'done'; readonly id: number; readonly inserts: readonly ReceivedInsert[] };

/** How long a start or an end may take on a slow, busy machine, ms. */
const patienceMs = 60_000;

/**
 * True if the kernel kills a node with the process that started it, even a paused node. Where it does not, a node that
 * runs notices that the channel is closed.
 */
export const isKilledWithParent = spawnSync('setpriv', ['--version'], { stdio: 'ignore' }).status === 0;

interface Waiting {
  readonly resolve: (inserts: readonly ReceivedInsert[]) => void;
  readonly reject: (error: Error) => void;
}

export class ClickHouseNode {
  /** Temporary directory with everything that the node writes. */
  readonly #folder: string;
  #orders: NodeOrders;
  #child: ChildProcess | null = null;
  #requests = 0;
  readonly #waiting = new Map<number, Waiting>();

  private constructor(folder: string, orders: NodeOrders) {
    this.#folder = folder;
    this.#orders = orders;
  }

  /** Starts a node with an empty database `default` and waits until it takes requests. */
  static async start(options: NodeOptions = {}): Promise<ClickHouseNode> {
    const folder = mkdtempSync(join(tmpdir(), 'ess-node-'));
    const node = new ClickHouseNode(folder, {
      path: join(folder, 'db'),
      spool: join(folder, 'spool'),
      ports: Array.from({ length: options.replicas ?? 1 }, () => 0),
      user: options.user ?? 'default',
      password: options.password ?? '',
      isReplicated: options.isReplicated ?? false,
      shard: options.shard ?? '01',
      host: options.host ?? '127.0.0.1',
    });
    try {
      await node.#spawn();
    } catch (error) {
      await node.dispose();
      throw error;
    }
    return node;
  }

  /** http://127.0.0.1:port of each replica; the same after a restart. */
  get urls(): readonly string[] {
    return this.#orders.ports.map((port) => `http://127.0.0.1:${port}`);
  }

  /** Each replica as a store target, with the right user and password. */
  targets(database = 'default'): HttpTarget[] {
    const { user, password } = this.#orders;
    return this.urls.map((url) => ({
      kind: 'http',
      url,
      user,
      password,
      database,
      tls: null,
      isCompressed: false,
    }));
  }

  /**
   * What is wrong with a replica from now on, until it is set anew or the process ends. With `inserts`, only the next
   * so many INSERTs with data are struck, and nothing else (`down` cannot be limited).
   */
  async setFault(replica: number, fault: Fault, inserts: number | null = null): Promise<void> {
    await this.#ask((id) => ({ type: 'fault', id, replica, fault, inserts }));
  }

  /** What system.replicas says; by default every replica is up to date. */
  async setState(replica: number, state: Partial<ReplicaState>): Promise<void> {
    const whole = { absoluteDelay: 0, insertsInQueue: 0, isReadonly: false, ...state };
    await this.#ask((id) => ({ type: 'state', id, replica, state: whole }));
  }

  /** INSERTs that a replica was sent since the process began, in the order of their arrival. */
  inserts(replica: number): Promise<readonly ReceivedInsert[]> {
    return this.#ask((id) => ({ type: 'inserts', id, replica }));
  }

  /** SIGKILL; waits for the end. The ports are closed, the data stays. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGKILL');
    await ended;
  }

  /** SIGSTOP: the ports take connections, but nobody is there. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** Kills the process if it runs, and starts it on the same ports and the same data, without faults. */
  async restart(): Promise<void> {
    await this.kill();
    await this.#spawn();
  }

  /** Kills the process and removes its data. */
  async dispose(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #spawn(): Promise<void> {
    const entry = fileURLToPath(new URL('./clickhouse_node.worker.js', import.meta.url));
    const command = [process.execPath, '--enable-source-maps', entry, JSON.stringify(this.#orders)];
    const [file = '', ...args] = isKilledWithParent
      ? ['setpriv', '--pdeathsig', 'KILL', ...command]
      : command;
    const child = spawn(file, args, {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      serialization: 'advanced',
      // A query that takes long must not keep those of the other replica from running.
      env: { ...process.env, UV_THREADPOOL_SIZE: '8' },
    });
    this.#child = child;
    let errors = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString()).slice(-4000);
    });
    const ports = await new Promise<readonly number[]>((resolve, reject) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
      child.on('message', (message: NodeMessage) => {
        if (message.type === 'ready') {
          clearTimeout(timer);
          resolve(message.ports);
          return;
        }
        this.#waiting.get(message.id)?.resolve(message.inserts);
        this.#waiting.delete(message.id);
      });
      child.once('exit', (code, signal) => {
        clearTimeout(timer);
        this.#child = null;
        const ended = new Error(`the ClickHouse node ended with ${code ?? signal}:\n${errors}`);
        for (const waiting of this.#waiting.values()) waiting.reject(ended);
        this.#waiting.clear();
        reject(ended);
      });
    });
    this.#orders = { ...this.#orders, ports };
  }

  #ask(request: (id: number) => NodeRequest): Promise<readonly ReceivedInsert[]> {
    const child = this.#child;
    if (child === null) return Promise.reject(new Error('the ClickHouse node does not run'));
    this.#requests += 1;
    const id = this.#requests;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      child.send(request(id));
    });
  }
}
