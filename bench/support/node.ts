// A ClickHouse node for a bench: the tests' one, which is the real engine behind HTTP, in a process of its own.

import { existsSync, writeFileSync } from 'node:fs';
import { ClickHouseNode } from '../../test/support/clickhouse_node.ts';
import { commandLine, processTree } from './process_usage.ts';

const workerName = 'clickhouse_node.worker.js';

export class BenchNode {
  readonly #node: ClickHouseNode;
  readonly pid: number;

  private constructor(node: ClickHouseNode, pid: number) {
    this.#node = node;
    this.pid = pid;
  }

  /** Its folder is made in os.tmpdir(). */
  static async start(): Promise<BenchNode> {
    // A build of the tests has the worker under its name, one of the benches as an entry of theirs.
    const worker = new URL(`./${workerName}`, import.meta.url);
    if (!existsSync(worker)) writeFileSync(worker, "import './bench.clickhouse_node.js';\n");
    const node = await ClickHouseNode.start();
    const pid = processTree(process.pid).find((member) => commandLine(member).includes(workerName));
    return new BenchNode(node, pid ?? -1);
  }

  /** Of its HTTP interface. */
  get url(): string {
    return this.#node.urls[0] ?? '';
  }

  /** Runs a statement and gives its rows as lists of texts. Rejects with the node's words if it refuses. */
  async query(sql: string): Promise<string[][]> {
    const response = await fetch(this.url, { method: 'POST', body: sql });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${sql}: ${text}`);
    return text
      .trimEnd()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split('\t'));
  }

  /** The first row of a SELECT of numbers. */
  async numbers(sql: string): Promise<number[]> {
    return ((await this.query(sql))[0] ?? []).map(Number);
  }

  async dispose(): Promise<void> {
    await this.#node.dispose();
  }
}
