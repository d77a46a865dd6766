// The systemd units without a systemd that runs: their syntax, by systemd-analyze where it is, and that the command lines
// with the example's variables are ones that ess reads.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { optionNames, optionVariable } from '../../src/config/options.ts';

const folder = 'deploy/systemd';
const units = ['ingest', 'sink'].map((role) => ({ role, file: `${folder}/ess-${role}.service` }));

/** `section.key` -> values, in their order. */
function readUnit(file: string): Map<string, string[]> {
  const settings = new Map<string, string[]>();
  let section = '';
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const header = /^\[(\w+)\]$/.exec(line)?.[1];
    if (header !== undefined) {
      section = header;
      continue;
    }
    const [, key, value = ''] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    assert.ok(key !== undefined && section !== '', `${file}: ${line}`);
    const name = `${section}.${key}`;
    settings.set(name, [...(settings.get(name) ?? []), value]);
  }
  return settings;
}

function readExample(): Record<string, string> {
  const lines = readFileSync(`${folder}/ess.env.example`, 'utf8').split('\n');
  return Object.fromEntries(
    lines
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => {
        const [, name, value = ''] = /^([A-Z_]+)=(\S*)$/.exec(line) ?? [];
        assert.ok(name !== undefined, line);
        return [name, value];
      }),
  );
}

describe('the systemd units', () => {
  test('have variables that are options', () => {
    const known = new Set(optionNames.map((name) => optionVariable(name)));
    for (const name of Object.keys(readExample())) assert.ok(known.has(name), name);
  });

  for (const { role, file } of units) {
    test(`${file} starts that role, restarts it, and gives it the time to stop`, () => {
      const unit = readUnit(file);
      const one = (name: string): string => {
        const values = unit.get(name) ?? [];
        assert.equal(values.length, 1, name);
        return values[0] ?? '';
      };
      const [node, flag, entry, ...argv] = one('Service.ExecStart').split(' ');
      assert.deepEqual(
        [node, flag, entry],
        ['/usr/bin/node', '--enable-source-maps', '/opt/ess/dist/ess.js'],
      );
      const config = loadConfig(argv, readExample(), 8);
      assert.equal(config.role, role);
      // ProtectSystem=strict leaves it no other folder to write to.
      assert.equal(config.dataDir, `/var/lib/${one('Service.StateDirectory')}`);
      assert.ok(Number(one('Service.TimeoutStopSec')) * 1000 > config.stopDeadlineMs);
      assert.ok(Number(one('Service.LimitNOFILE')) > 2 * config.slotsMax);
      assert.equal(one('Service.Restart'), 'always');
      assert.equal(one('Service.User'), 'ess');
      assert.ok(!unit.has('Service.MemoryDenyWriteExecute'), 'V8 writes code at run time');
    });

    test(`${file} is accepted by systemd-analyze`, {
      skip: existsSync('/usr/bin/systemd-analyze') && existsSync('/usr/bin/node') ? false : 'no systemd here',
    }, () => {
      const { status, stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' });
      assert.equal(status, 0, stderr);
      assert.equal(stderr.trim(), '');
    });
  }

  test('have a command beside them that runs as they do', () => {
    const text = readFileSync(`${folder}/ess`, 'utf8');
    assert.equal(spawnSync('sh', ['-n', `${folder}/ess`]).status, 0);
    for (const { file } of units) {
      const unit = readUnit(file);
      const one = (name: string): string => unit.get(`Service.${name}`)?.[0] ?? '';
      assert.ok(text.includes(`--property=User=${one('User')} `), file);
      assert.ok(text.includes(`--property=EnvironmentFile=${one('EnvironmentFile')} `), file);
      assert.ok(text.includes(one('ExecStart').split(' ').slice(0, 3).join(' ')), file);
    }
  });

  test('take different ports and folders on one machine', () => {
    const configs = units.map(({ file }) => {
      const [line = ''] = readUnit(file).get('Service.ExecStart') ?? [];
      return loadConfig(line.split(' ').slice(3), readExample(), 8);
    });
    assert.equal(new Set(configs.map(({ port }) => port)).size, 2);
    assert.equal(new Set(configs.map(({ dataDir }) => dataDir)).size, 2);
  });
});
