// docs/operations.md against what points to it and what it tells people to do: every trouble and every alert has its
// section, no link is dead, and the SQL that it gives runs on the tables as they are.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { marked } from 'marked';
import { dlqHelpText } from '../../src/cli/dlq/options.ts';
import { doctorHelpText } from '../../src/cli/doctor/options.ts';
import { initHelpText } from '../../src/cli/init/options.ts';
import { topicsHelpText } from '../../src/cli/topics/options.ts';
import { verifyHelpText } from '../../src/cli/verify/options.ts';
import { optionFlag, optionNames } from '../../src/config/options.ts';
import { headingSlug } from '../../src/live/heading_slug.ts';
import { type TroubleKind, troubleAnchor, troubleKinds } from '../../src/live/troubles.ts';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { ensureSchema } from '../../src/store/migrate.ts';
import { operationsPath, readAlerts, runbookAnchor } from './rule_files.ts';

const text = readFileSync(operationsPath, 'utf8');
const tokens = marked.lexer(text);

/** Sections that tell of no trouble. */
const otherSections = [
  'look-here-first',
  'ask-the-doctor-first',
  'upgrades',
  'adding-partitions',
  'adding-a-broker',
];

/** What each section about a trouble answers. */
const answers = ['What it is.', 'For the data.', 'Check.', 'Cure.', 'Over when.'];

/** The text of each section by its anchor. */
function readSections(): Map<string, string> {
  const sections = new Map<string, string>();
  let anchor = '';
  for (const token of tokens) {
    if (token.type === 'heading' && token['depth'] === 2) {
      anchor = headingSlug(String(token['text']));
      assert.ok(!sections.has(anchor), `two headings make ${anchor}`);
      sections.set(anchor, '');
    } else if (anchor !== '') sections.set(anchor, sections.get(anchor) + token.raw);
  }
  return sections;
}

const sections = readSections();

/** The blocks of code in one language. */
const codeIn = (language: string): string[] =>
  tokens.flatMap((token) =>
    token.type === 'code' && token['lang'] === language ? [String(token['text'])] : [],
  );

describe('docs/operations.md', () => {
  test('has a section for every kind of trouble, under the anchor to which the page links', () => {
    for (const kind of Object.keys(troubleKinds) as TroubleKind[])
      assert.ok(sections.has(troubleAnchor(kind)), `no section ${troubleAnchor(kind)}`);
  });

  test('answers in each of them what it is, what it means for the data, how to check, to cure, and when it is over', () => {
    for (const [anchor, section] of sections) {
      if (otherSections.includes(anchor)) continue;
      const found = [...section.matchAll(/^\*\*([^*]+)\*\*/gm)].map(([, name = '']) => name);
      assert.deepEqual(found, answers, anchor);
    }
  });

  test('has the section of every alert, which names the alert', () => {
    const alerts = readAlerts();
    for (const [anchor, section] of sections) {
      const named = /^Alerts?: (.+)\.$/m.exec(section)?.[1]?.split(', ') ?? [];
      const leadingHere = alerts.filter((alert) => runbookAnchor(alert) === anchor).map(({ alert }) => alert);
      assert.deepEqual(named.toSorted(), leadingHere.toSorted(), anchor);
    }
    for (const alert of alerts) assert.ok(sections.has(runbookAnchor(alert)), alert.alert);
  });

  test('links to nothing but its own sections, so that every link works on the page too', () => {
    const links: string[] = [];
    marked.walkTokens(tokens, (token) => {
      if (token.type === 'link') links.push(String(token['href']));
    });
    assert.ok(links.length > 20);
    for (const link of links) assert.ok(link.startsWith('#') && sections.has(link.slice(1)), link);
  });

  test('names only options that there are', () => {
    const known = new Set([
      ...optionNames.map((name) => `--${optionFlag(name)}`),
      ...(initHelpText().match(/--[a-z-]+/g) ?? []),
      ...(dlqHelpText().match(/--[a-z-]+/g) ?? []),
      ...(doctorHelpText().match(/--[a-z-]+/g) ?? []),
      ...(verifyHelpText().match(/--[a-z-]+/g) ?? []),
      ...(topicsHelpText().match(/--[a-z-]+/g) ?? []),
    ]);
    const spans: string[] = [];
    marked.walkTokens(tokens, (token) => {
      if (token.type === 'codespan') spans.push(String(token['text']));
    });
    const ofEss = spans.filter((span) => span.startsWith('--') || span.startsWith('ess '));
    const named = new Set(ofEss.flatMap((span) => span.match(/--[a-z-]+/g) ?? []));
    assert.ok(named.size > 10);
    for (const name of named) assert.ok(known.has(name), name);
  });

  test('gives SQL that runs', async () => {
    const statements = codeIn('sql')
      .flatMap((code) => code.split(';'))
      .map((statement) => statement.trim())
      .filter((statement) => statement !== '');
    assert.ok(statements.length > 5);
    const path = mkdtempSync(join(tmpdir(), 'ess-operations-'));
    await pinEmbeddedEngine();
    const store = await openStore({ kind: 'embedded', path });
    try {
      await ensureSchema(store);
      for (const statement of statements) {
        if (statement.startsWith('INSERT')) await store.command(statement);
        else await store.rows(statement);
      }
    } finally {
      await store.close();
      rmSync(path, { recursive: true, force: true });
    }
  });
});
