// docs/deploy.md and k6/README.md against what they tell people to use: files, services, profiles, variables and commands of
// ess that there are. What needs a container engine or systemd is not run: the document says so.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { marked } from 'marked';
import { doctorHelpText } from '../../src/cli/doctor/options.ts';
import { initHelpText } from '../../src/cli/init/options.ts';
import { verifyHelpText } from '../../src/cli/verify/options.ts';
import { loadConfig } from '../../src/config/load.ts';
import { optionFlag, optionNames, optionVariable } from '../../src/config/options.ts';
import { headingSlug } from '../../src/live/heading_slug.ts';
import { readCompose, readVariables } from './compose_file.ts';

const files = ['docs/deploy.md', 'k6/README.md'];

interface Parts {
  readonly links: readonly string[];
  /** Lines of shell, continuations joined, comments left out. */
  readonly commands: readonly string[];
  readonly anchors: ReadonlySet<string>;
}

function read(file: string): Parts {
  const tokens = marked.lexer(readFileSync(file, 'utf8'));
  const links: string[] = [];
  const commands: string[] = [];
  const anchors = new Set<string>();
  marked.walkTokens(tokens, (token) => {
    if (token.type === 'link') links.push(String(token['href']));
    if (token.type === 'heading') anchors.add(headingSlug(String(token['text'])));
    if (token.type !== 'code' || token['lang'] !== 'sh') return;
    const lines = String(token['text']).replace(/\\\n/g, ' ').split('\n');
    commands.push(...lines.map((line) => line.replace(/\s+#.*$/, '').trim()).filter((line) => line !== ''));
  });
  return { links, commands, anchors };
}

const commands = files.flatMap((file) => read(file).commands);

describe('docs/deploy.md', () => {
  test('links to files and sections that there are', () => {
    for (const file of files) {
      for (const link of read(file).links) {
        if (/^https?:/.test(link)) continue;
        const [path = '', anchor] = link.split('#');
        const target = path === '' ? file : join(dirname(file), path);
        assert.ok(existsSync(target), `${file}: ${link}`);
        if (anchor !== undefined) assert.ok(read(target).anchors.has(anchor), `${file}: ${link}`);
      }
    }
  });

  test('names services, profiles and files of compose/ that there are', () => {
    const { services } = readCompose();
    const ofCompose = commands.filter((line) => line.startsWith('docker compose'));
    assert.ok(ofCompose.length > 5);
    for (const line of ofCompose) {
      const [, file = ''] = /--file (\S+)/.exec(line) ?? [];
      assert.ok(existsSync(file), line);
      const [, profile] = /--profile (\S+)/.exec(line) ?? [];
      if (profile !== undefined)
        assert.ok(
          Object.values(services).some(({ profiles = [] }) => profiles.includes(profile)),
          line,
        );
      const words = line
        .replace(/--(file|profile) \S+/g, '')
        .split(/\s+/)
        .slice(2);
      const [verb = '', ...rest] = words.filter((word) => !word.startsWith('--'));
      assert.ok(['up', 'down', 'run', 'build', 'logs'].includes(verb), line);
      for (const name of rest) assert.ok(name in services, `${line}: ${name}`);
    }
  });

  test('copies and runs files of this repository', () => {
    const named = commands.flatMap(
      (line) => line.match(/(?<![\w/.])(compose|deploy|scripts|k6)\/[\w./-]+/g) ?? [],
    );
    assert.ok(named.length > 8);
    for (const path of named) assert.ok(existsSync(path) || path === 'compose/.env', path);
  });

  test('names options, variables and flags that there are', () => {
    const text = readFileSync('docs/deploy.md', 'utf8');
    const variables = new Set([
      ...optionNames.map((name) => optionVariable(name)),
      ...readVariables().keys(),
    ]);
    for (const name of text.match(/\bESS_[A-Z_]+/g) ?? []) assert.ok(variables.has(name), name);
    const flags = new Set(optionNames.map((name) => `--${optionFlag(name)}`));
    for (const [, flag = ''] of text.matchAll(/`(--[a-z-]+)(?: [^`]*)?`/g))
      assert.ok(flags.has(flag) || ['--build-arg', '--role'].includes(flag), flag);
    const served = commands.filter((line) => line.includes('ess.js'));
    assert.ok(served.length > 0);
    for (const line of served) {
      const argv = line.slice(line.indexOf('ess.js') + 'ess.js'.length);
      loadConfig(argv.trim().split(/\s+/), {}, 4);
    }
    // By the wrapper that is installed beside the units.
    const help = new Map(
      Object.entries({ init: initHelpText(), doctor: doctorHelpText(), verify: verifyHelpText() }),
    );
    const wrapped = commands.filter((line) => line.startsWith('ess '));
    assert.deepEqual(new Set(wrapped.map((line) => line.split(' ')[1])), new Set(help.keys()));
    for (const line of wrapped) {
      const [, name = '', ...argv] = line.split(/\s+/);
      for (const flag of argv.filter((word) => word.startsWith('--')))
        assert.ok(help.get(name)?.includes(flag), line);
    }
  });
});
