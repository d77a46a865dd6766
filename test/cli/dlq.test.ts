// The command line of `ess dlq`, and what it says where no service answers.

import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { dlqHelpText, parseDlqOptions } from '../../src/cli/dlq/options.ts';
import { runDlq } from '../../src/cli/dlq.ts';

const parse = (line: string, env: NodeJS.ProcessEnv = {}) => parseDlqOptions(line.split(' '), env, 2);

class Text extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

async function run(argv: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const stdout = new Text();
  const stderr = new Text();
  const { signal } = new AbortController();
  const code = await runDlq(argv, { env: {}, cores: 2, stdout, stderr, signal });
  return { code, out: stdout.text, err: stderr.text };
}

test('says what to do with which letters', () => {
  assert.deepEqual(parse('list')?.action, { type: 'list', state: 'parked', code: null });
  assert.deepEqual(parse('list --state all --code 469')?.action, { type: 'list', state: 'all', code: '469' });
  assert.deepEqual(parse('show 3:17')?.action, { type: 'show', position: { partition: 3, offset: 17 } });
  const positions = [
    { partition: 0, offset: 1 },
    { partition: 1, offset: 0 },
  ];
  assert.deepEqual(parse('replay 0:1 1:0 0:1')?.action, {
    type: 'replay',
    letters: { type: 'some', positions },
    file: null,
  });
  assert.deepEqual(parse('replay --all --code 27')?.action, {
    type: 'replay',
    letters: { type: 'all', code: '27' },
    file: null,
  });
  assert.deepEqual(parse('discard --all --reason why')?.action, {
    type: 'discard',
    letters: { type: 'all', code: null },
    reason: 'why',
  });
  assert.equal(parse('--help'), null);
});

test('finds the service where serve would listen, or where it is told to', () => {
  const urlOf = (line: string, env: NodeJS.ProcessEnv = {}): string | undefined => parse(line, env)?.url.href;
  assert.equal(urlOf('list'), 'http://127.0.0.1:8080/');
  assert.equal(urlOf('list', { ESS_PORT: '9001', ESS_HOST: '0.0.0.0' }), 'http://127.0.0.1:9001/');
  assert.equal(urlOf('list', { ESS_HOST: '::' }), 'http://[::1]:8080/');
  assert.equal(urlOf('list --url https://ess.example/behind'), 'https://ess.example/behind/');
});

test('refuses what is not clear, with exit code 2', async () => {
  for (const line of [
    'list 3:17',
    'list --state odd',
    'list --all',
    'lst',
    'show',
    'show 1:2 3:4',
    'show 3',
    'show 3:x',
    'replay',
    'replay --all 1:2',
    'replay 1:2 --code 3',
    'replay 1:2 3:4 --with file',
    'replay --all --with file',
    'replay 1:2 --with /nowhere/at/all.json',
    'replay 1:2 --reason r',
    'discard 1:2',
    'discard 1:2 --with file --reason r',
    'list --url nonsense',
    'list --odd',
  ]) {
    const { code, out, err } = await run(line.split(' '));
    assert.deepEqual([code, out], [2, ''], line);
    assert.match(err, /^ess dlq: .+\nSee ess dlq --help\.\n$/, line);
  }
  assert.equal((await run([])).code, 2);
});

test('says so where nothing answers, with exit code 1', async () => {
  for (const argv of [['list'], ['show', '0:0'], ['replay', '0:0'], ['discard', '--all', '--reason', 'r']]) {
    const { code, out, err } = await run([...argv, '--url', 'http://127.0.0.1:9']);
    assert.deepEqual([code, out], [1, '']);
    assert.match(err, /^ess dlq: no answer from http:\/\/127\.0\.0\.1:9\//);
  }
});

test('has a help text of at most 100 columns', async () => {
  const { code, out } = await run(['--help']);
  assert.equal(code, 0);
  assert.equal(out, dlqHelpText());
  for (const line of out.split('\n')) assert.ok(line.length <= 100, line);
});
