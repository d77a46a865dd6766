// Prometheus and its promtool for tests: checks of files, and a real server that scrapes on loopback. A test starts it,
// asks its API and disposes of it; its data is in a temporary folder.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const startMsMax = 60_000;
const lookEveryMs = 100;
/** A port that was free may be taken before the server listens. */
const startsMax = 3;

/**
 * Options for a test or a suite that needs Prometheus and promtool: it is skipped, and that is said loudly, where they
 * cannot be had. With ESS_REQUIRE_ALL=1 that is a failure.
 */
export function needsPrometheus(): { readonly skip: string | false } {
  const isThere = (name: string): boolean => spawnSync(name, ['--version']).error === undefined;
  if (isThere('promtool') && isThere('prometheus')) return { skip: false };
  const why =
    'prometheus and promtool are not on PATH (node scripts/tools.mjs promtool prometheus unpacks them)';
  assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', `${why}, and ESS_REQUIRE_ALL=1`);
  console.error(`SKIPPED: ${why}`);
  return { skip: why };
}

/** Runs promtool; asserts that it succeeds, and gives what it wrote. */
export function promtool(args: readonly string[], input = ''): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, { input, encoding: 'utf8' });
  assert.equal(status, 0, `promtool ${args.join(' ')}:\n${stdout}${stderr}`);
  return stdout + stderr;
}

/** What api/v1/rules says of an alert. */
export interface AlertRule {
  readonly name: string;
  readonly health: string;
  readonly state: 'inactive' | 'pending' | 'firing';
  readonly lastError?: string;
  readonly evaluationTime: number;
  readonly alerts: readonly {
    readonly state: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  }[];
}

interface RulesJson {
  readonly groups: readonly {
    readonly name: string;
    readonly file: string;
    readonly lastEvaluation: string;
    readonly rules: readonly AlertRule[];
  }[];
}

interface TargetsJson {
  readonly activeTargets: readonly { readonly health: string; readonly lastError: string }[];
}

export class PrometheusProcess {
  readonly url: string;
  readonly #folder: string;
  readonly #child: ChildProcess;
  readonly #output: string[];

  private constructor(url: string, folder: string, child: ChildProcess, output: string[]) {
    this.url = url;
    this.#folder = folder;
    this.#child = child;
    this.#output = output;
  }

  /** Starts a server with these files (text by name), of which one is `prometheus.yml`, and waits until it is ready. */
  static async start(files: Readonly<Record<string, string>>): Promise<PrometheusProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'ess-prometheus-'));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    for (let start = 1; ; start += 1) {
      const address = `127.0.0.1:${await freePort()}`;
      const argv = [
        `--config.file=${join(folder, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=${address}`,
        '--log.level=warn',
      ];
      const output: string[] = [];
      const child = spawn('prometheus', argv, { stdio: ['ignore', 'pipe', 'pipe'] });
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk: Buffer) => output.push(chunk.toString()));
      const server = new PrometheusProcess(`http://${address}`, folder, child, output);
      if (await server.#isReady()) return server;
      if (start < startsMax) await server.#end();
      else {
        await server.dispose();
        throw new Error(`prometheus did not start:\n${output.join('')}`);
      }
    }
  }

  async #isReady(): Promise<boolean> {
    const endMs = Date.now() + startMsMax;
    while (this.#child.exitCode === null && Date.now() < endMs) {
      const response = await fetch(`${this.url}/-/ready`).catch(() => null);
      if (response?.ok === true) return true;
      await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
    }
    return false;
  }

  async #get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.url}/api/v1/${path}`);
    const { status, data, error } = (await response.json()) as {
      readonly status: string;
      readonly data: T;
      readonly error?: string;
    };
    assert.equal(status, 'success', `${path}: ${error} ${this.#output.join('')}`);
    return data;
  }

  /** Alerts of the rule file whose path ends like this, and since when all its groups have been evaluated, epoch ms. */
  async alertRules(
    file: string,
  ): Promise<{ readonly rules: readonly AlertRule[]; readonly evaluatedMs: number }> {
    const { groups } = await this.#get<RulesJson>('rules?type=alert');
    const ofFile = groups.filter((group) => group.file.endsWith(file));
    return {
      rules: ofFile.flatMap(({ rules }) => rules),
      evaluatedMs: Math.min(...ofFile.map(({ lastEvaluation }) => Date.parse(lastEvaluation))),
    };
  }

  /** How many series an expression gives now; fails where it cannot be evaluated. */
  async count(expression: string): Promise<number> {
    const { result } = await this.#get<{ readonly result: readonly unknown[] }>(
      `query?query=${encodeURIComponent(expression)}`,
    );
    return result.length;
  }

  async targets(): Promise<TargetsJson['activeTargets']> {
    return (await this.#get<TargetsJson>('targets?state=active')).activeTargets;
  }

  async #end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }

  /** Kills it and removes its data. */
  async dispose(): Promise<void> {
    await this.#end();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}
