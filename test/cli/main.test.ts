// The entry as users run it: the bundled file in a process of its own.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { commandOf } from '../../src/cli/command.ts';
import { type Reply, startService } from './service_double.ts';

const entry = fileURLToPath(new URL('./ess.js', import.meta.url));
// A build of some of the tests (build.mjs --only) has no entry.
const needsEntry = { skip: !existsSync(entry) && process.env['ESS_REQUIRE_ALL'] === undefined };

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function start(
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
): { child: ChildProcess; ended: Promise<Ended> } {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('ESS_'));
  const child = spawn(process.execPath, [entry, ...argv], {
    env: { ...Object.fromEntries(inherited), ...env },
  });
  let out = '';
  let err = '';
  child.stdout?.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    err += chunk;
  });
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code) => resolve({ code, out, err }));
  });
  return { child, ended };
}

function run(argv: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ended> {
  const { child, ended } = start(argv, env);
  child.stdin?.end();
  return ended;
}

test('a command line means the command that it names, or serve', () => {
  assert.deepEqual(commandOf([]), { type: 'serve', argv: [] });
  assert.deepEqual(commandOf(['--port', '1']), { type: 'serve', argv: ['--port', '1'] });
  assert.deepEqual(commandOf(['serve', '--port', '1']), { type: 'serve', argv: ['--port', '1'] });
  assert.deepEqual(commandOf(['send', '--help', 'x']), { type: 'send', argv: ['--help', 'x'] });
  assert.deepEqual(commandOf(['help', 'send']), { type: 'send', argv: ['--help'] });
  assert.deepEqual(commandOf(['verify', '--deep']), { type: 'verify', argv: ['--deep'] });
  assert.deepEqual(commandOf(['help', 'verify']), { type: 'verify', argv: ['--help'] });
  for (const argv of [['--help'], ['-h'], ['help'], ['serve', '--help'], ['--port', '1', '--help']]) {
    assert.equal(commandOf(argv).type, 'help');
  }
  assert.equal(commandOf(['--version']).type, 'version');
  assert.equal(commandOf(['srve']).type, 'unknown');
});

test('--help and --version answer on standard output and give 0', needsEntry, async () => {
  const help = await run(['--help']);
  assert.deepEqual([help.code, help.err], [0, '']);
  assert.ok(help.out.includes('--sink-linger-ms'));
  const version = await run(['--version']);
  assert.equal(version.code, 0);
  assert.match(version.out, /^\d+\.\d+\.\d+\n$/);
});

test('an unknown command, option or variable gives 2 and a line that names it', needsEntry, async () => {
  const command = await run(['srve']);
  assert.deepEqual([command.code, command.out], [2, '']);
  assert.ok(command.err.includes('srve'));
  const option = await run(['serve', '--prot', '1']);
  assert.deepEqual([option.code, option.err.trimEnd().split('\n').length], [2, 1]);
  assert.ok(option.err.includes('--prot') && option.err.includes('--port'));
  const variable = await run([], { ESS_PORT: 'x' });
  assert.deepEqual([variable.code, variable.err.trimEnd().split('\n').length], [2, 1]);
  assert.ok(variable.err.includes('ESS_PORT'));
});

test('ess send reads standard input, and gives 0 when every row was accepted', needsEntry, async () => {
  const service = await startService();
  const { child, ended } = start(['send', '--url', service.url, '--json', '-']);
  child.stdin?.end('{"id":"1"}\n{"id":"2"}\n');
  const { code, out } = await ended;
  await service.close();
  assert.equal(code, 0);
  assert.equal(JSON.parse(out).accepted, 2);
  assert.equal(service.stored.size, 2);
});

test('ess send gives 1 when a row was rejected and 2 for a bad command line', needsEntry, async () => {
  const service = await startService();
  const { child, ended } = start(['send', '--url', service.url, '--json', '-']);
  child.stdin?.end('{"id":"1"}\n{"id":\n');
  assert.equal((await ended).code, 1);
  await service.close();
  assert.equal((await run(['send'])).code, 2);
});

test(
  'ess send that is interrupted waits for its request, prints the summary and gives 130',
  needsEntry,
  async () => {
    let child: ChildProcess | null = null;
    const service = await startService(async (): Promise<Reply> => {
      child?.kill('SIGINT');
      await new Promise((resolve) => setTimeout(resolve, 200));
      return 'accept';
    });
    // Standard input stays open: only the interrupt ends it.
    const started = start(['send', '--url', service.url, '--json', '--batch-events', '1', '-']);
    child = started.child;
    child.stdin?.write('{"id":"1"}\n');
    const { code, out } = await started.ended;
    await service.close();
    assert.equal(code, 130);
    assert.equal(JSON.parse(out).accepted, 1);
  },
);
