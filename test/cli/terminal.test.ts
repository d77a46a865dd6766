// Commands on a real terminal, in front of a real service: their bars, and Ctrl-C. Invariant: an interrupted command ends
// with 130, says how things are, leaves the terminal as it was, and can be run again without losing or doubling anything.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { allowPoison, poison, refusePoison } from '../crash/journal.ts';
import { dlq, listed } from '../support/dlq_command.ts';
import { EssProcess } from '../support/ess_process.ts';
import { needsTerminal, Terminal } from '../support/terminal.ts';
import { essVerifyJson } from '../verify/by_hand.ts';

const flags = { producers: 1, sinks: 1, readers: 1, partitions: 4 };
/** Several requests of `ess dlq replay`. */
const letters = 200;
/** More than a machine stores before somebody can interrupt. */
const rows = 400_000;

test('commands on a terminal are interrupted in order', needsTerminal(), async (context) => {
  const made = await EssProcess.start({ flags });
  let ess = made;
  const folder = mkdtempSync(join(tmpdir(), 'ess-terminal-'));
  context.after(async () => {
    await ess.dispose();
    rmSync(folder, { recursive: true, force: true });
  });
  await made.end('SIGTERM');
  await refusePoison(made.dataDir);
  // Each of them is refused alone.
  const fast = { ...flags, 'sink-inserts-per-second': 500 };
  ess = await EssProcess.start({ flags: fast, dataDir: made.dataDir });
  const parked = Array.from({ length: letters }, (_, i) =>
    JSON.stringify({ id: `letter-${i}`, text: poison }),
  );
  await ess.post(parked.join('\n'), '?ack=store', 'application/x-ndjson');
  await ess.drained();
  await ess.end('SIGTERM');
  await allowPoison(made.dataDir);
  // Slow enough that a replay can be interrupted half-way.
  ess = await EssProcess.start({ flags: { ...flags, 'sink-inserts-per-second': 2 }, dataDir: made.dataDir });

  await context.test(
    'ess dlq replay stops between two requests, and goes on when it is run again',
    async () => {
      const terminal = new Terminal(['dlq', 'replay', '--all', '--url', ess.url]);
      await terminal.until(/replayed/);
      terminal.interrupt();
      assert.equal(await terminal.end(), 130, terminal.output);
      assert.match(terminal.output, /of 200 letters/);
      assert.match(terminal.output, /interrupted\. (\d+) of 200 letters are left as they were/);
      const left = Number(/(\d+) of 200 letters are left/.exec(terminal.output)?.[1]);
      assert.equal((await listed(ess.url)).length, left);
      const again = await dlq(ess.url, ['replay', '--all', '--quiet']);
      assert.equal(again.code, 0, again.err);
      assert.deepEqual([again.lines.length, await listed(ess.url)], [left, []]);
      const { conservation } = await ess.drained();
      assert.deepEqual([conservation.stored, conservation.exact], [letters, true]);
    },
  );

  await ess.end('SIGTERM');
  ess = await EssProcess.start({ flags, dataDir: made.dataDir });

  await context.test('ess send waits for what is under way, and counts it', async () => {
    const file = join(folder, 'rows.ndjson');
    writeFileSync(file, Array.from({ length: rows }, (_, i) => `{"id":"row-${i}"}\n`).join(''));
    const terminal = new Terminal(['send', '--url', ess.url, file]);
    await terminal.until(/% \| \d+ rows, [1-9]\d* accepted/);
    terminal.interrupt();
    assert.equal(await terminal.end(), 130, terminal.output);
    assert.match(terminal.output, /stopped: interrupted/);
    const accepted = Number(/^accepted +(\d+)/m.exec(terminal.output)?.[1]);
    assert.ok(accepted > 0 && accepted < rows, terminal.output);
    const { conservation } = await ess.drained();
    assert.deepEqual([conservation.stored, conservation.exact], [letters + accepted, true]);
  });

  await context.test('ess verify gives up at once, and does so while nobody answers', async () => {
    ess.child.kill('SIGSTOP');
    const terminal = new Terminal(['verify', '--deep', '--url', ess.url]);
    await terminal.until(/\.\.\. 0% \| /);
    terminal.interrupt();
    assert.equal(await terminal.end(), 130, terminal.output);
    assert.match(terminal.output, /nothing is proven, and nothing was changed/);
    ess.child.kill('SIGCONT');
    assert.ok((await essVerifyJson(['--deep', '--url', ess.url], 0)).exact);
  });

  await context.test('what waits for a cluster that is not there ends, too', async () => {
    const nobody = ['--kafka-brokers', '127.0.0.1:9', '--clickhouse', 'http://127.0.0.1:9'];
    const init = new Terminal(['init', '--wait-ms', '600000', ...nobody]);
    await init.until(/waiting for .*kafka/i);
    init.interrupt();
    assert.equal(await init.end(), 130, init.output);
    for (const argv of [['verify'], ['topics', 'describe']]) {
      const terminal = new Terminal([...argv, ...nobody]);
      await terminal.until(/waiting for/);
      terminal.interrupt();
      assert.equal(await terminal.end(), 130, terminal.output);
    }
  });
});
