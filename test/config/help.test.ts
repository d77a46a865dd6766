// --help and docs/configuration.md say everything that the option table says, and nothing is left out of a group.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { configurationMarkdown } from '../../src/config/docs.ts';
import { helpText } from '../../src/config/help.ts';
import {
  optionDefault,
  optionFlag,
  optionGroups,
  optionKey,
  optionNames,
  options,
  optionVariable,
} from '../../src/config/options.ts';

test('every option stands in exactly one group', () => {
  const grouped = optionGroups.flatMap(({ names }) => names);
  assert.deepEqual([...grouped].sort(), [...optionNames].sort());
});

test('the help names every option, its variable and its default, in at most 100 columns', () => {
  const help = helpText();
  for (const name of optionNames) {
    // A secret has no flag.
    assert.equal(help.includes(`--${optionFlag(name)} `), options[name].type !== 'secret');
    assert.ok(help.includes(optionVariable(name)));
    assert.ok(help.replace(/\s+/g, ' ').includes(`default ${optionDefault(options[name])})`));
  }
  for (const line of help.split('\n')) assert.ok(line.length <= 100, line);
});

test('docs/configuration.md is what the option table generates (node scripts/docs.mjs writes it)', () => {
  const document = configurationMarkdown();
  for (const name of optionNames) {
    const isSecret = options[name].type === 'secret';
    assert.equal(document.includes(`\`${optionKey(name)}\``), !isSecret);
    assert.equal(document.includes(`\`--${optionFlag(name)}\``), !isSecret);
    assert.ok(document.includes(`\`${optionVariable(name)}\``));
  }
  assert.equal(readFileSync('docs/configuration.md', 'utf8'), document);
});
