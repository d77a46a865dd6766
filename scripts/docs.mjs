// Writes docs/configuration.md from the option table (src/config/options.ts):
//   node scripts/docs.mjs
import { mkdirSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

// Node 20 does not run TypeScript, so the generator is compiled in memory first.
const { outputFiles } = await build({
  entryPoints: ['src/config/docs.ts'],
  bundle: true,
  platform: 'node',
  format: 'esm',
  write: false,
});
const { configurationMarkdown } = await import(
  `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`
);
mkdirSync('docs', { recursive: true });
writeFileSync('docs/configuration.md', configurationMarkdown());
