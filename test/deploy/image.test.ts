// The image without a container engine: what the Dockerfile copies is there, and the packages that it leaves, made by the
// same script, run the same command lines as it would, down to the health check.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EssProcess } from '../support/ess_process.ts';
import { readCompose } from './compose_file.ts';

interface Instruction {
  readonly name: string;
  readonly text: string;
}

/** Instructions by stage. */
function readStages(): Instruction[][] {
  const stages: Instruction[][] = [];
  const lines = readFileSync('Dockerfile', 'utf8')
    .split('\n')
    .filter((line) => !line.startsWith('#') && line.trim() !== '')
    .join('\n')
    .replace(/\\\n/g, ' ');
  for (const line of lines.split('\n')) {
    const [name = ''] = line.split(' ', 1);
    if (name === 'FROM') stages.push([]);
    stages.at(-1)?.push({ name, text: line.slice(name.length).trim() });
  }
  return stages;
}

const stages = readStages();
const last = stages.at(-1) ?? [];
const textOf = (name: string): string =>
  last.findLast((instruction) => instruction.name === name)?.text ?? '';
const argvIn = (text: string): string[] => JSON.parse(/\[.*\]/.exec(text)?.[0] ?? '[]') as string[];

describe('the Dockerfile', () => {
  test('copies only what is there and what .dockerignore lets through', () => {
    const passing = readFileSync('.dockerignore', 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    for (const { name, text } of stages.flat()) {
      if (name !== 'COPY' || text.startsWith('--from')) continue;
      for (const source of text.split(/\s+/).slice(0, -1)) {
        assert.ok(existsSync(source), source);
        assert.ok(
          passing.some((path) => source === path || source.startsWith(`${path}/`)),
          source,
        );
      }
    }
    for (const path of passing) assert.ok(existsSync(path), path);
    for (const path of ['node_modules', '.git', 'ess-data', 'compose/.env'])
      assert.ok(!passing.includes(path), path);
  });

  test('builds with all that the build needs, and copies from stages that there are', () => {
    const [build = []] = stages;
    const copied = build
      .filter(({ name }) => name === 'COPY')
      .flatMap(({ text }) => text.split(/\s+/).slice(0, -1));
    for (const needed of ['build.mjs', 'scripts', 'src', 'docs', 'package.json', 'package-lock.json'])
      assert.ok(copied.includes(needed), needed);
    const named = stages.map(([from]) => / AS (\w+)$/.exec(from?.text ?? '')?.[1]);
    for (const { text } of last.filter(({ name }) => name === 'COPY')) {
      const from = /^--from=(\w+)/.exec(text)?.[1];
      assert.ok(from === undefined || named.includes(from), text);
    }
  });

  test('ends as a user who is not root, with a health check and commands in exec form', () => {
    assert.match(textOf('USER'), /^[1-9]\d*:[1-9]\d*$/);
    assert.equal(textOf('EXPOSE'), '8080');
    assert.deepEqual(argvIn(textOf('HEALTHCHECK')), ['node', '/app/scripts/healthcheck.mjs', '/healthz']);
    assert.deepEqual(argvIn(textOf('ENTRYPOINT')), ['node', '--enable-source-maps', '/app/dist/ess.js']);
    assert.deepEqual(argvIn(textOf('CMD')), ['--role', 'all']);
  });

  test('has a base on which the native modules load: the Node.js on which the tests run, with glibc', () => {
    const image = /^ARG NODE_IMAGE=(.*)$/m.exec(readFileSync('Dockerfile', 'utf8'))?.[1] ?? '';
    const [, major = '', debian = ''] = /^node:(\d+)\.\d+\.\d+-(\w+)-slim$/.exec(image) ?? [];
    const glibc: Readonly<Record<string, number>> = { bookworm: 36, trixie: 41 };
    assert.ok((glibc[debian] ?? 0) >= (major === '20' ? 36 : 38), image);
  });
});

/** By hard links if it is the same file system: there is nearly a gigabyte of packages. */
function copyTree(from: string, to: string): void {
  if (spawnSync('cp', ['-al', from, to]).status === 0) return;
  rmSync(to, { recursive: true, force: true });
  assert.equal(spawnSync('cp', ['-a', from, to]).status, 0);
}

describe('what the image has in it', () => {
  let app: string;
  let ess: EssProcess;
  before(async () => {
    // Elsewhere than in the repository, whose node_modules would be found from below it.
    app = mkdtempSync(join(tmpdir(), 'ess-image-'));
    const built = fileURLToPath(new URL('.', import.meta.url));
    copyTree(resolve('node_modules'), join(app, 'node_modules'));
    copyTree(built, join(app, 'dist'));
    copyFileSync('package.json', join(app, 'package.json'));
    const slim = spawnSync(process.execPath, ['scripts/slim.mjs', app], { encoding: 'utf8' });
    assert.equal(slim.status, 0, slim.stderr);
    ess = await EssProcess.start({ entry: join(app, 'dist/ess.js'), flags: { role: 'ingest' } });
  });
  after(async () => {
    await ess?.dispose();
    rmSync(app, { recursive: true, force: true });
  });

  const checkHealth = (port: string, ...argv: readonly string[]) =>
    spawnSync(process.execPath, ['scripts/healthcheck.mjs', ...argv], {
      encoding: 'utf8',
      env: { ...process.env, ESS_PORT: port },
    });
  const port = (): string => new URL(ess.url).port;

  test('is neither chdb nor a binary for another platform', () => {
    for (const path of ['chdb', '@chdb']) assert.ok(!existsSync(join(app, 'node_modules', path)), path);
    const { stdout } = spawnSync('find', [join(app, 'node_modules/uWebSockets.js'), '-name', '*.node'], {
      encoding: 'utf8',
    });
    assert.equal(stdout.trim().split('\n').length, 1, stdout);
    // And what was taken out of the image is still here.
    assert.ok(existsSync('node_modules/chdb/package.json'));
  });

  test('takes events', async () => {
    assert.equal((await ess.post('{"id":"in-an-image"}')).status, 200);
  });

  test('says what is missing to whoever starts it on the embedded store', () => {
    const { status, stderr, stdout } = spawnSync(
      process.execPath,
      [join(app, 'dist/ess.js'), '--role', 'sink', '--port', '0', '--data-dir', join(app, 'data')],
      { encoding: 'utf8', timeout: 60_000 },
    );
    assert.notEqual(status, 0);
    assert.match(stderr + stdout, /needs the package chdb/);
  });

  test('its health checks tell a process that is well from one that is not there', async () => {
    const commands = [
      argvIn(textOf('HEALTHCHECK')),
      readCompose().services['ess-ingest']?.healthcheck?.test?.slice(1) ?? [],
    ];
    for (const [node, script, ...argv] of commands) {
      assert.deepEqual([node, script], ['node', '/app/scripts/healthcheck.mjs']);
      const well = checkHealth(port(), ...argv);
      assert.equal(well.status, 0, well.stdout);
      const gone = checkHealth('9', ...argv);
      assert.equal(gone.status, 1);
      assert.match(gone.stdout, /ECONNREFUSED|refused|bad port/i);
    }
    assert.equal(checkHealth(port(), '/nothing').status, 1);
  });
});
