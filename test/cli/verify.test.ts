// What `ess verify` takes and shows, beside the proof itself (test/verify).

import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseVerifyOptions, verifyHelpText } from '../../src/cli/verify/options.ts';
import { Progress } from '../../src/cli/verify/progress.ts';
import { addressOf } from '../../src/cli/verify/remote.ts';
import { EssError } from '../../src/errors.ts';
import { readReport, reportJson } from '../../src/verify/report.ts';

test('takes the options of serve and its own', () => {
  const options = parseVerifyOptions(
    ['--deep', '--json', '--data-dir', '/data', '--url', 'http://host:1/'],
    {},
    2,
  );
  assert.ok(options !== null);
  assert.deepEqual(
    [options.isDeep, options.isJson, options.url, options.config.dataDir],
    [true, true, 'http://host:1/', '/data'],
  );
  assert.equal(parseVerifyOptions(['-h'], {}, 2), null);
  for (const argv of [
    ['--url', 'host:1'],
    ['--url', 'ftp://host'],
    ['--deeper'],
    ['extra'],
    ['--port', 'x'],
  ]) {
    assert.throws(
      () => parseVerifyOptions(argv, {}, 2),
      (error) => error instanceof EssError && error.code === 'bad_option',
      argv.join(' '),
    );
  }
  for (const line of verifyHelpText().split('\n')) assert.ok(line.length <= 100, line);
});

test('asks a process that listens everywhere on this machine', () => {
  const at = (...argv: string[]): string => {
    const options = parseVerifyOptions(argv, {}, 2);
    assert.ok(options !== null);
    return addressOf(options.config);
  };
  assert.equal(at(), 'http://127.0.0.1:8080');
  assert.equal(at('--host', '0.0.0.0', '--port', '81'), 'http://127.0.0.1:81');
  assert.equal(at('--host', '::', '--port', '81'), 'http://[::1]:81');
});

test('says in one line that all is exact, and how many findings are left out', () => {
  const nowhere = { partition: null, shard: null, first: null, last: null };
  const finding = { ...nowhere, kind: 'letters_missing', count: 2, detail: 'two', examples: [] } as const;
  const report = {
    isExact: true,
    isDeep: true,
    epoch: 'e',
    partitions: [],
    events: { events: 3, identities: 3 },
    findings: [],
    findingsTotal: 0,
    tookMs: 1,
  };
  assert.match(
    readReport(reportJson(report))?.text ?? '',
    /^exact: 0 records = .*, 3 events with 3 identities\n$/,
  );
  const wrong = readReport(reportJson({ ...report, isExact: false, findings: [finding], findingsTotal: 5 }));
  assert.equal(wrong?.isExact, false);
  assert.match(wrong?.text ?? '', /^letters_missing two; .*\nand 4 more\nNOT exact, 5 findings: .*\n$/);
  for (const other of ['', '[]', '{}', '{"exact":1,"findings":[]}', 'null'])
    assert.equal(readReport(other), null);
});

test('shows a bar if it takes a while, and nothing before', async () => {
  const shown = async (afterMs: number): Promise<string> => {
    const terminal = Object.assign(new PassThrough(), {
      isTTY: true,
      columns: 80,
      cursorTo: () => {},
      clearLine: () => {},
    });
    const progress = new Progress(terminal, afterMs);
    progress.onProgress(10, 200);
    while (afterMs === 0 && terminal.readableLength === 0) await sleep(10);
    progress.onProgress(150, 200);
    progress.stop();
    return String(terminal.read() ?? '');
  };
  assert.equal(await shown(100_000), '');
  assert.match(await shown(0), /% \| \d+ of 200 offsets/);
});
