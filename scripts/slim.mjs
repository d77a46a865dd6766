// Takes out of node_modules what an image with servers of its own does not use: chdb (546 MB) and what is made for other
// platforms or other versions of Node.js than the one that runs this. The Dockerfile runs it; by hand:
//   node scripts/slim.mjs [FOLDER]     FOLDER: has node_modules in it, default the present one
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const modules = join(process.argv[2] ?? '.', 'node_modules');
const remove = (...path) => rmSync(join(modules, ...path), { recursive: true, force: true });
const namesIn = (...path) => (existsSync(join(modules, ...path)) ? readdirSync(join(modules, ...path)) : []);

// By name: npm's --omit=optional would take lmdb's binary with it.
remove('chdb');
remove('@chdb');

const { platform, arch, versions } = process;
const wanted = `uws_${platform}_${arch}_${versions.modules}.node`;
const binaries = namesIn('uWebSockets.js').filter((name) => /^uws_.*\.node$/.test(name));
if (!binaries.includes(wanted)) {
  console.error(
    `uWebSockets.js has no ${wanted}: use another Node.js or platform (README.md names those that do).`,
  );
  process.exit(1);
}
for (const name of binaries) if (name !== wanted) remove('uWebSockets.js', name);
for (const name of ['docs', 'examples', 'misc', 'mvp', 'src', 'tests']) remove('uWebSockets.js', name);
for (const name of namesIn('@datadog', 'pprof', 'prebuilds'))
  if (name !== `${platform}-${arch}`) remove('@datadog', 'pprof', 'prebuilds', name);
