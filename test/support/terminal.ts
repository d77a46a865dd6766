// Runs `ess` on a terminal of its own, which util-linux's `script` makes: what is written arrives as a person would see it,
// and an interrupt is the key Ctrl-C, which the kernel makes a signal of.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** How long something that has to come may take on a slow, busy machine, ms. */
const patienceMs = 120_000;

const hideCursor = '\x1b[?25l';
const showCursor = '\x1b[?25h';
const wrapOff = '\x1b[?7l';
const wrapOn = '\x1b[?7h';

/** Options for a test that needs a terminal: skipped, loudly, without `script`; with ESS_REQUIRE_ALL=1 that is a failure. */
export function needsTerminal(): { readonly skip: string | false } {
  if (spawnSync('script', ['-qec', 'true', '/dev/null'], { stdio: 'ignore' }).status === 0) {
    return { skip: false };
  }
  const why = "util-linux's script, which makes terminals, is not on PATH";
  assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', `${why}, and ESS_REQUIRE_ALL=1`);
  console.error(`SKIPPED: ${why}`);
  return { skip: why };
}

export class Terminal {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  #output = '';

  /** Starts `ess` with these arguments, 90 columns wide. */
  constructor(argv: readonly string[]) {
    const entry = fileURLToPath(new URL('./ess.js', import.meta.url));
    const quoted = [process.execPath, '--enable-source-maps', entry, ...argv]
      .map((word) => `'${word.replaceAll("'", `'\\''`)}'`)
      .join(' ');
    const command = `stty cols 90 rows 24 && exec ${quoted}`;
    this.#child = spawn('script', ['-qec', command, '/dev/null'], { stdio: 'pipe' });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (chunk: string) => {
        this.#output += chunk;
      });
    }
    this.#ended = new Promise((resolve) => this.#child.once('close', resolve));
  }

  /** All that was written, with what moves the cursor. */
  get output(): string {
    return this.#output;
  }

  /** Waits until it matches; throws what there is instead if the command ends before, or takes too long. */
  async until(pattern: RegExp): Promise<void> {
    const untilMs = Date.now() + patienceMs;
    while (!pattern.test(this.#output)) {
      assert.ok(this.#child.exitCode === null && Date.now() < untilMs, `no ${pattern} in: ${this.#output}`);
      await sleep(20);
    }
  }

  /** A line and Enter, or a key such as Ctrl-C. */
  type(text: string): void {
    this.#child.stdin?.write(text);
  }

  interrupt(): void {
    this.type('\x03');
  }

  /** Waits for the end; gives the exit code, after looking that the terminal is as it was. */
  async end(): Promise<number | null> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), patienceMs);
    const code = await this.#ended;
    clearTimeout(timer);
    const last = (text: string): number => this.#output.lastIndexOf(text);
    assert.ok(last(showCursor) >= last(hideCursor), `the cursor is shown again: ${this.#output}`);
    assert.ok(last(wrapOn) >= last(wrapOff), `lines are wrapped again: ${this.#output}`);
    return code;
  }
}
