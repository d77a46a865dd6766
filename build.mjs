// Builds dist/ (what users run) or, with --test, dist-test/ (the same entries plus every test, with the fault
// points compiled in), or with --bench, dist-bench/ (what users run, plus every bench); each with the page in page/. All
// entries sit flat in one folder, because workers find each other by `new URL('./x.js', import.meta.url)`, which esbuild leaves alone.
//   node build.mjs [--test | --bench] [--out=FOLDER] [--only=PART]    PART: build only entries whose path contains it
import { copyFileSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { buildPage } from './scripts/page.mjs';

const { values } = parseArgs({
  options: {
    test: { type: 'boolean' },
    bench: { type: 'boolean' },
    out: { type: 'string' },
    only: { type: 'string', default: '' },
  },
});
const forTests = values.test === true;
// The tests run every bench with tiny settings.
const withBenches = forTests || values.bench === true;
const outdir = values.out ?? (forTests ? 'dist-test' : withBenches ? 'dist-bench' : 'dist');
const { version } = JSON.parse(readFileSync('package.json', 'utf8'));

const filesBelow = (folder, ending) =>
  readdirSync(folder, { recursive: true })
    .map((name) => `${folder}/${name}`)
    .filter((name) => name.endsWith(ending));
const flat = (file) =>
  file
    .replace(/^src\//, '')
    .replace(/\.ts$/, '')
    .replaceAll('/', '.');

const entryPoints = { ess: 'src/main.ts' };
for (const file of filesBelow('src', '.worker.ts').sort())
  entryPoints[file.replace(/^.*\/|\.ts$/g, '')] = file;
if (forTests) {
  for (const file of [...filesBelow('test', '.test.ts'), ...filesBelow('test', '.worker.ts')]) {
    entryPoints[file.endsWith('.worker.ts') ? file.replace(/^.*\/|\.ts$/g, '') : flat(file)] = file;
  }
}
// What lies in bench/ itself is an entry, what lies in its folders is not.
const benchFiles = withBenches ? readdirSync('bench').map((name) => `bench/${name}`) : [];
for (const file of benchFiles.filter((name) => name.endsWith('.ts'))) entryPoints[flat(file)] = file;

for (const [name, file] of Object.entries(entryPoints))
  if (!file.includes(values.only)) delete entryPoints[name];

rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints,
  outdir,
  bundle: true,
  // Else the packages of every command would be loaded by each of them: `ess --version` would need uWebSockets.js.
  splitting: true,
  platform: 'node',
  target: 'node20.12',
  format: 'esm',
  packages: 'external',
  sourcemap: 'linked',
  sourcesContent: false,
  define: { __FAULTS__: String(forTests), __VERSION__: JSON.stringify(version) },
  logLevel: 'warning',
});
for (const file of benchFiles.filter((name) => name.endsWith('.lua')))
  copyFileSync(file, `${outdir}/${file.replace('/', '.')}`);
await buildPage(outdir);
