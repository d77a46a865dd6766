// Profiles of code that esbuild has bundled, merged: places and names are those that were written, samples keep their
// thread and their values.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { mergedProfile } from '../../src/profile/merged_profile.ts';
import { Profiler } from '../../src/profile/profiler.ts';
import { SourcePlaces } from '../../src/profile/source_places.ts';
import { ownFunctions, readProfile, threadsOf } from './pprof.ts';

// Two functions of one name, of which a bundle has to rename one, and one that has none. Each spins for about 150 ms.
const spin = 'const endMs = Date.now() + 150;\n  while (Date.now() < endMs) JSON.parse("[1, 2, 3]");';
const sources = {
  'a.ts': `export function burn(): void {\n  ${spin}\n}\n`,
  'b.ts': `// A comment.\n\nexport function burn(): void {\n  ${spin}\n}\n`,
  'main.ts': `import { burn as a } from './a.ts';
import { burn as b } from './b.ts';
export function all(): void {
  a();
  b();
  for (const each of [1]) [each].forEach(() => {
  ${spin}
  });
}
`,
};

describe('a profile of bundled code', () => {
  // With a blank, which V8 writes in another way than the file system.
  let root = '';
  let built: { all(): void };
  let profiler: Profiler;
  before(async () => {
    root = join(mkdtempSync(join(tmpdir(), 'ess-test-')), 'with blank');
    mkdirSync(join(root, 'src'), { recursive: true });
    for (const [name, text] of Object.entries(sources)) writeFileSync(join(root, 'src', name), text);
    await build({
      entryPoints: [join(root, 'src/main.ts')],
      outfile: join(root, 'dist/main.js'),
      bundle: true,
      format: 'esm',
      sourcemap: 'linked',
      sourcesContent: false,
      logLevel: 'error',
    });
    writeFileSync(join(root, 'package.json'), '{"type":"module"}');
    profiler = await Profiler.open();
    built = await import(pathToFileURL(join(root, 'dist/main.js')).href);
  });
  after(() => rmSync(join(root, '..'), { recursive: true, force: true }));

  test('names functions as they were written, and says of each sample which thread it is from', async () => {
    profiler.startTime();
    built.all();
    const bytes = profiler.stopTime();
    assert.ok(bytes !== null);
    assert.equal(profiler.stopTime(), null);
    const copy = new Uint8Array(bytes);
    const parts = [
      { thread: 'one', bytes },
      { thread: 'two', bytes: copy },
    ];
    const merged = readProfile(gzipSync(mergedProfile(parts, new SourcePlaces(root)).encode()));
    const alone = readProfile(gzipSync(mergedProfile(parts.slice(1), new SourcePlaces(root)).encode()));
    assert.deepEqual(threadsOf(merged), ['one', 'two']);
    for (const thread of ['one', 'two']) {
      const places = ownFunctions(merged, thread);
      for (const place of ['burn src/a.ts:1', 'burn src/b.ts:3', 'all src/main.ts:3'])
        assert.ok(places.has(place), `${place}: ${[...places]}`);
      assert.ok(
        [...places].some((place) => /^\(anonymous:L#6\) src\/main\.ts:6$/.test(place)),
        `${[...places]}`,
      );
    }
    const total = (profile: typeof merged): number =>
      profile.samples.reduce((sum, { values }) => sum + (values[0] ?? 0), 0);
    assert.ok(total(alone) > 10);
    assert.equal(total(merged), 2 * total(alone));
    assert.equal(merged.durationSeconds, alone.durationSeconds);
    assert.deepEqual(merged.sampleTypes, alone.sampleTypes);
  });

  test('stays as built where there is no source map, and cannot be mixed with one of another kind', async () => {
    const places = new SourcePlaces(root);
    rmSync(join(root, 'dist/main.js.map'));
    assert.deepEqual(places.placeOf('burn2', join(root, 'dist/main.js'), 9, 16), {
      name: 'burn2',
      file: 'dist/main.js',
      line: 9,
    });
    assert.deepEqual(places.placeOf('', '', 0, 0), { name: '(native)', file: '', line: 0 });
    assert.deepEqual(places.placeOf('parse', 'node:url', 12, 3), {
      name: 'parse',
      file: 'node:url',
      line: 12,
    });
    assert.throws(() => mergedProfile([], places), { code: 'internal' });
    profiler.startTime();
    const time = profiler.stopTime();
    assert.ok(time !== null);
    const parts = [
      { thread: 'main', bytes: time },
      { thread: 'sink-0', bytes: profiler.heap() },
    ];
    assert.throws(() => mergedProfile(parts, places), { code: 'internal' });
  });
});
