// What a reader relies on, checked over the sources themselves.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const sources = readdirSync('src', { recursive: true })
  .map(String)
  .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'));

/** The folder of src a file belongs to; files directly in src have none. */
function folderOf(path: string): string | null {
  const parts = path.split('/');
  return parts.length > 1 ? (parts[0] ?? null) : null;
}

/** Folder -> folders that it imports from. */
function folderImports(): Map<string, Set<string>> {
  const imports = new Map<string, Set<string>>();
  for (const name of sources) {
    const from = folderOf(name);
    if (from === null) continue;
    const text = readFileSync(join('src', name), 'utf8');
    for (const [, target = ''] of text.matchAll(/from '(\.[^']+)'/g)) {
      const to = folderOf(join(name, '..', target));
      if (to === null || to === from) continue;
      const known = imports.get(from) ?? new Set();
      known.add(to);
      imports.set(from, known);
    }
  }
  return imports;
}

test('no two folders of src depend on each other, however indirectly', () => {
  const imports = folderImports();
  const visit = (folder: string, path: readonly string[]): void => {
    assert.ok(!path.includes(folder), `cycle: ${[...path, folder].join(' -> ')}`);
    for (const next of imports.get(folder) ?? []) visit(next, [...path, folder]);
  };
  for (const folder of imports.keys()) visit(folder, []);
});

test('layers point one way', () => {
  const imports = folderImports();
  const forbidden: Readonly<Record<string, readonly string[]>> = {
    store: ['log', 'ring', 'http', 'sink', 'ingest', 'engine'],
    ring: ['http', 'ingest', 'log', 'store', 'engine', 'event'],
    log: ['http', 'ring', 'ingest', 'sink', 'store', 'engine'],
    event: ['http', 'ring', 'ingest', 'log', 'sink', 'store', 'engine'],
    http: ['sink', 'store', 'engine', 'verify'],
    verify: ['http', 'ring', 'ingest', 'sink', 'engine', 'cli'],
    sink: ['http', 'ingest', 'engine'],
    ingest: ['http', 'sink', 'store', 'engine'],
    live: ['http', 'ring', 'ingest', 'log', 'sink', 'store', 'engine'],
    profile: ['http', 'ring', 'ingest', 'log', 'sink', 'store', 'engine'],
    stats: ['live', 'http', 'ring', 'ingest', 'log', 'sink', 'store', 'engine'],
  };
  for (const [folder, targets] of Object.entries(forbidden)) {
    for (const target of targets)
      assert.ok(!imports.get(folder)?.has(target), `${folder} imports from ${target}`);
  }
});

test('the page takes from the server its words and nothing that runs there, and the server nothing from the page', () => {
  const imports = folderImports();
  for (const folder of imports.get('page') ?? []) assert.ok(['live', 'stats'].includes(folder), folder);
  for (const [folder, targets] of imports) assert.ok(!targets.has('page'), `${folder} imports from page`);
});

test('every source file opens with a comment that says what it is for', () => {
  for (const name of sources) assert.match(readFileSync(join('src', name), 'utf8'), /^\/\/ /, name);
});

test('nothing is left open and no escape from the type system is taken', () => {
  // Pieced together, so that this file does not find itself.
  const leftOpen = new RegExp(
    `\\b(TO${'DO'}|FIX${'ME'}|XX${'X'})\\b|@ts-(ignore|nocheck|expect-error)|\\bas any\\b`,
  );
  for (const name of sources) {
    const found = leftOpen.exec(readFileSync(join('src', name), 'utf8'));
    assert.equal(found, null, `${name}: ${found?.[0]}`);
  }
});

test("README's npm commands are scripts of package.json", () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
  for (const file of ['README.md', 'bench/README.md']) {
    for (const [, name = ''] of readFileSync(file, 'utf8').matchAll(/npm (?:run )?([a-z][a-z:]*)/g)) {
      assert.ok(name === 'ci' || name === 'install' || scripts[name] !== undefined, `${file}: npm ${name}`);
    }
  }
});
