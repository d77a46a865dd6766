// What the commands of the documents are run against: a clone of this repository in which `npm start` serves the embedded
// default, four brokers and three shards of two replicas in front of which ESS runs by roles, and folders that stand
// for /etc, /opt and /var/lib. One set for all commands.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { poison } from '../crash/journal.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';
import type { LetterJson } from '../support/dlq_command.ts';
import { KafkaCluster } from '../support/kafka_cluster.ts';
import { writeKafkaTools } from '../support/kafka_tools.ts';
import { type Command, commandLine } from './document.ts';
import { type Ended, Running, runMsMax } from './running.ts';

/** How long a process is given something to do while it is profiled, ms. */
const loadMs = 4_000;

/**
 * Where a command is run.
 *   embedded  in the clone, 127.0.0.1:8080 being what `npm start` serves
 *   cluster   in the clone, with the brokers and nodes in the environment, 8080 being the ingest and 8081 the sink
 *   fresh     in another clone, in which nothing runs: it may be built anew at any time
 */
export type Place = 'embedded' | 'cluster' | 'fresh';

export type Substitutions = readonly (readonly [string | RegExp, string])[];

const put = (text: string, pairs: Substitutions): string =>
  pairs.reduce((now, [from, to]) => now.replaceAll(from, to), text);

/** Not needed to run or build it, or not to be shared with it. */
const notCloned = ['.git', '.cache', '.build', 'node_modules', 'dist', 'dist-test', 'dist-bench', 'ess-data'];

/**
 * Stands for systemd-run where no systemd runs: the program that it is given, with nothing but the environment of its
 * file, as a unit has it.
 */
const systemdRun = (root: string): string => `#!/bin/bash
while [[ $1 == --* ]]; do
  case $1 in
    --property=EnvironmentFile=*) mapfile -t variables < <(grep -v '^#' "${root}\${1#*EnvironmentFile=}") ;;
    --quiet | --pipe | --wait | --collect | --property=User=ess) ;;
    *) echo "unknown option $1" >&2; exit 1 ;;
  esac
  shift
done
shift # /usr/bin/node
words=()
for word in "$@"; do [[ $word == /opt/* ]] && word="${root}$word"; words+=("$word"); done
exec env -i "\${variables[@]}" "${process.execPath}" "\${words[@]}"
`;

export class Parts {
  /** Everything lies below it. */
  readonly folder = mkdtempSync(join(tmpdir(), 'ess-docs-'));
  /** Stands for / in /etc, /opt and /var/lib. */
  readonly root = join(this.folder, 'root');
  readonly clone = join(this.folder, 'clone');
  readonly fresh = join(this.folder, 'fresh');
  readonly #servers = new Map<string, { readonly running: Running; readonly url: string }>();
  /** Brokers and nodes start while the first commands, which need none, are run. */
  #cluster: Promise<void> = Promise.resolve();
  #kafka: KafkaCluster | null = null;
  readonly #nodes: ClickHouseNode[] = [];
  #receiver: Server | null = null;
  /** The name of the release that was built; empty before. */
  release = '';
  /** What was sent to the host that stands for Pyroscope. */
  readonly pushed: { readonly url: string; readonly bytes: Buffer }[] = [];
  /** Positions of the dead letters that `park` makes. */
  readonly letters: { refused: readonly string[]; garbage: readonly string[] } = { refused: [], garbage: [] };
  readonly #onExit = (): void => {
    for (const { running } of this.#servers.values()) running.signal('SIGKILL');
  };

  static start(): Parts {
    const parts = new Parts();
    process.once('exit', parts.#onExit);
    parts.#prepare();
    parts.#cluster = parts.#startCluster();
    // It is told to whoever waits for it.
    parts.#cluster.catch(() => {});
    return parts;
  }

  #prepare(): void {
    for (const folder of [this.clone, this.fresh]) {
      mkdirSync(folder);
      for (const name of readdirSync('.').filter((each) => !notCloned.includes(each)))
        cpSync(name, join(folder, name), { recursive: true });
      symlinkSync(resolve('node_modules'), join(folder, 'node_modules'));
      // k6 and the other tools that are not npm's.
      symlinkSync(resolve('.cache'), join(folder, '.cache'));
    }
    for (const path of ['etc/systemd/system', 'opt', 'usr/local/bin', 'var/lib'])
      mkdirSync(join(this.root, path), { recursive: true });
    // For useradd.
    for (const name of ['passwd', 'shadow', 'group', 'gshadow'])
      writeFileSync(join(this.root, 'etc', name), '');
    const bin = join(this.folder, 'bin');
    writeKafkaTools(bin);
    writeFileSync(join(bin, 'systemd-run'), systemdRun(this.root), { mode: 0o755 });
    this.#receiver = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        this.pushed.push({ url: request.url ?? '', bytes: Buffer.concat(chunks) });
        response.end();
      });
    });
    this.#receiver.listen(0, '127.0.0.1');
  }

  async #startCluster(): Promise<void> {
    this.#kafka = await KafkaCluster.start({ nodes: 4 });
    for (const shard of ['01', '02', '03'])
      this.#nodes.push(await ClickHouseNode.start({ replicas: 2, isReplicated: true, shard }));
  }

  /**
   * Gives the fresh clone packages of its own, which may be taken out: by hard links where the file system is the same. False:
   * those of the repository again.
   */
  ownModules(isOwn: boolean): void {
    const to = join(this.fresh, 'node_modules');
    rmSync(to, { recursive: true });
    if (!isOwn) {
      symlinkSync(resolve('node_modules'), to);
      return;
    }
    const isCopied = ['-al', '-a'].some(
      (flags) => spawnSync('cp', [flags, resolve('node_modules'), to]).status === 0,
    );
    assert.ok(isCopied);
    // npm writes into this file as it is, and so into ours.
    rmSync(join(to, '.package-lock.json'));
    copyFileSync('node_modules/.package-lock.json', join(to, '.package-lock.json'));
  }

  async dispose(): Promise<void> {
    for (const name of [...this.#servers.keys()]) await this.stop(name).catch(() => {});
    await this.#cluster.catch(() => {});
    await this.#kafka?.dispose();
    for (const node of this.#nodes) await node.dispose();
    this.#receiver?.close();
    process.removeListener('exit', this.#onExit);
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** The hosts of the documents, and the paths outside the clone, as they are here. */
  #substitutions(place: Place): Substitutions {
    const url = (name: string): string => this.#servers.get(name)?.url ?? 'http://nobody.invalid';
    const host = (name: string): string => new URL(url(name)).host;
    const ingest = host(place === 'cluster' ? 'ingest' : 'embedded');
    const hosts: Substitutions = [
      [/(?:127\.0\.0\.1|10\.0\.0\.1):8080/g, ingest],
      [/(?:127\.0\.0\.1|10\.0\.0\.[12]):8081/g, host('sink')],
      ['--host 0.0.0.0', '--host 127.0.0.1'],
      [/\bpyroscope:4040/g, `127.0.0.1:${(this.#receiver?.address() as AddressInfo | null)?.port}`],
      [/(?<=[\s'"=])\/(?=(?:etc|opt|usr\/local|var\/lib)\b)/g, `${this.root}/`],
    ];
    const brokers = this.#kafka?.brokers ?? [];
    const nodes = this.#nodes.flatMap((node) => node.urls);
    return [
      ...hosts,
      ...brokers.map((broker, i) => [new RegExp(`\\bkafka${i + 1}:9092`, 'g'), broker] as const),
      ...nodes.map((each, i) => [new RegExp(`\\bch${i + 1}:8123`, 'g'), new URL(each).host] as const),
    ];
  }

  #environment(place: Place, more: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
    const own = place === 'cluster' ? 'ingest' : 'embedded';
    const server = this.#servers.get(own);
    return {
      ...process.env,
      PATH: `${join(this.folder, 'bin')}:${join(this.root, 'usr/local/bin')}:${process.env['PATH'] ?? ''}:/usr/local/go/bin:/usr/sbin:/sbin`,
      // What `go tool pprof` and npm leave behind.
      PPROF_TMPDIR: this.folder,
      npm_config_cache: join(this.folder, 'npm'),
      npm_config_update_notifier: 'false',
      // docs/deploy.md, Upgrades: "with its name and without .tar.gz in `release`".
      release: this.release,
      ...(server === undefined ? {} : { ESS_PORT: new URL(server.url).port }),
      ...(place === 'cluster'
        ? {
            ESS_KAFKA_BROKERS: (this.#kafka?.brokers ?? []).join(','),
            ESS_CLICKHOUSE: this.#clickhouse(),
            ESS_DATA_DIR: join(this.folder, 'data-of-commands'),
          }
        : {}),
      ...more,
    };
  }

  #folderOf(place: Place): string {
    return place === 'fresh' ? this.fresh : this.clone;
  }

  /** The lines before it and the command, with the hosts and paths that are here. */
  #script({ text, before }: Command, place: Place, instead: Substitutions): string {
    const lines = [...before, put(text, instead)].map((line) => put(line, this.#substitutions(place)));
    return ['set -e -o pipefail', ...lines].join('\n');
  }

  /** Runs a command to its end. */
  async run(
    command: Command,
    place: Place,
    instead: Substitutions = [],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Ended> {
    if (place === 'cluster') await this.#cluster;
    const script = this.#script(command, place, instead);
    return new Running(script, this.#folderOf(place), this.#environment(place, env)).ended();
  }

  /** Starts a command that goes on, and waits until it says where it listens; it is known by this name then. */
  async serve(
    name: string,
    command: Command,
    place: Place,
    instead: Substitutions = [],
    env: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    if (place === 'cluster') await this.#cluster;
    // On the embedded default ./ess-data is part of what is documented.
    const dataDir = place === 'embedded' ? {} : { ESS_DATA_DIR: join(this.folder, `data-of-${name}`) };
    const script = this.#script(command, place, instead);
    const running = new Running(
      script,
      this.#folderOf(place),
      this.#environment(place, { ESS_PORT: '0', ...dataDir, ...env }),
    );
    this.#servers.set(name, { running, url: 'http://nobody.invalid' });
    const url = await running.says(/(?:"url":"|Serving web UI on )(http:[^"\s]+)/);
    this.#servers.set(name, { running, url });
  }

  /** Ends a server in order; gives its exit code and all that it wrote. */
  async stop(name: string): Promise<Ended> {
    const server = this.#servers.get(name);
    assert.ok(server !== undefined, `there is no ${name}`);
    server.running.signal('SIGTERM');
    const ended = await server.running.ended();
    this.#servers.delete(name);
    return ended;
  }

  has(name: string): boolean {
    return this.#servers.has(name);
  }

  get kafka(): KafkaCluster {
    assert.ok(this.#kafka !== null);
    return this.#kafka;
  }

  urlOf(name: string): string {
    const server = this.#servers.get(name);
    assert.ok(server !== undefined, `there is no ${name}`);
    return server.url;
  }

  /** What a page of a server says; its status has to be 200. */
  async get(name: string, path: string): Promise<string> {
    const response = await fetch(`${this.urlOf(name)}${path}`);
    const text = await response.text();
    assert.equal(response.status, 200, text);
    return text;
  }

  /** What docs/deploy.md tells to set in /etc/ess/ess.env, and the ports, which are others here. */
  essEnv(): Readonly<Record<string, string>> {
    return {
      ESS_KAFKA_BROKERS: this.kafka.brokers.join(','),
      ESS_CLICKHOUSE: this.#clickhouse(),
      ESS_CLICKHOUSE_DATABASE: 'default',
      ESS_CLICKHOUSE_USER: 'default',
      ESS_CLICKHOUSE_PASSWORD: '',
      ESS_PORT: new URL(this.urlOf('ingest')).port,
      ESS_DATA_DIR: join(this.folder, 'data-of-commands'),
    };
  }

  /** `--clickhouse`: all shards. */
  #clickhouse(): string {
    return this.#nodes.map((node) => node.urls.join(',')).join(';');
  }

  /** Gives a process something to do for a few seconds; settles at once. */
  load(name: string): void {
    const url = `${this.urlOf(name)}/events/`;
    const lines = Array.from({ length: 500 }, (_, i) => JSON.stringify({ type: `t${i % 5}`, n: i })).join(
      '\n',
    );
    const headers = { 'content-type': 'application/x-ndjson' };
    const untilMs = Date.now() + loadMs;
    const sendOn = async (): Promise<void> => {
      while (Date.now() < untilMs && this.has(name))
        await (await fetch(url, { method: 'POST', body: lines, headers })).arrayBuffer();
    };
    void sendOn().catch(() => {});
  }

  async #statement(sql: string): Promise<void> {
    for (const [url] of this.#nodes.map((node) => node.urls)) {
      const response = await fetch(`${url}/?database=default`, { method: 'POST', body: sql });
      assert.equal(response.status, 200, await response.text());
    }
  }

  /** Makes dead letters: two events that ClickHouse refuses, and two records that are no events. */
  async park(): Promise<void> {
    await this.#statement(
      `ALTER TABLE events ADD CONSTRAINT no_poison CHECK position(body, '${poison}') = 0`,
    );
    for (const id of ['refused-1', 'refused-2']) {
      const body = JSON.stringify({ id, text: poison });
      const response = await fetch(`${this.urlOf('ingest')}/events/`, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json' },
      });
      assert.equal(response.status, 200, await response.text());
    }
    const text = `printf 'no JSON\\nno JSON either\\n' | kafka-console-producer.sh --bootstrap-server kafka1:9092 --topic events`;
    const produced = await this.run(commandLine(text), 'cluster');
    assert.equal(produced.code, 0, produced.output);
    const untilMs = Date.now() + runMsMax;
    for (;;) {
      const found = await this.#parked();
      const positions = (isRefused: boolean): string[] =>
        found
          .filter(({ code }) => (code === '469') === isRefused)
          .map(({ partition, offset }) => `${partition}:${offset}`);
      if (found.length === 4) {
        this.letters.refused = positions(true);
        this.letters.garbage = positions(false);
        return;
      }
      assert.ok(Date.now() < untilMs, `four letters were expected: ${JSON.stringify(found)}`);
      await sleep(100);
    }
  }

  async #parked(): Promise<readonly LetterJson[]> {
    const text = await this.get('ingest', '/dead-letters');
    return (JSON.parse(text) as { readonly dead_letters: readonly LetterJson[] }).dead_letters;
  }

  /** The constraint that parked two of them is no more. */
  async endRefusal(): Promise<void> {
    await this.#statement('ALTER TABLE events DROP CONSTRAINT no_poison');
  }
}
