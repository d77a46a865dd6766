// Builds the page into FOLDER/page: the browser's program and style with hashes in their names, the page itself,
// docs/operations.md as a page of its own, and docs/openapi.yaml as JSON. Called by build.mjs; everything is put into the program's folder, since the
// service sends nobody anywhere else.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { Marked } from 'marked';
import { parse } from 'yaml';

const operationsFile = 'docs/operations.md';
const openapiFile = 'docs/openapi.yaml';

/** Runs in current browsers, and in those of the last years. */
const target = ['chrome109', 'firefox115', 'safari16'];

export async function buildPage(outdir) {
  const folder = join(outdir, 'page');
  mkdirSync(folder, { recursive: true });
  const { metafile } = await build({
    entryPoints: [
      { in: 'src/page/main.ts', out: 'app' },
      { in: 'src/page/app.css', out: 'app' },
      { in: 'src/page/icon.svg', out: 'icon' },
    ],
    outdir: folder,
    entryNames: '[name]-[hash]',
    bundle: true,
    minify: true,
    metafile: true,
    platform: 'browser',
    format: 'esm',
    target,
    loader: { '.svg': 'copy' },
    legalComments: 'none',
    logLevel: 'warning',
  });
  const made = Object.keys(metafile.outputs).map((file) => basename(file));
  const place = (ending) => `/${made.find((name) => name.endsWith(ending))}`;
  const fill = (file, text = '') =>
    readFileSync(file, 'utf8')
      .replace('%JS%', place('.js'))
      .replace('%CSS%', place('.css'))
      .replace('%ICON%', place('.svg'))
      // As a function: the text may have $& and the like.
      .replace('%TEXT%', () => text);
  writeFileSync(join(folder, 'index.html'), fill('src/page/index.html'));
  writeFileSync(join(folder, 'operations.html'), fill('src/page/operations.html', await operations()));
  if (existsSync(openapiFile))
    writeFileSync(
      join(folder, 'openapi.json'),
      JSON.stringify(parse(readFileSync(openapiFile, 'utf8'), { merge: true })),
    );
}

/** The text of docs/operations.md, its headings with the anchors that GitHub gives them. */
async function operations() {
  if (!existsSync(operationsFile))
    return '<h1>Operations</h1><p>This build was made without docs/operations.md.</p>';
  const headingSlug = await loadHeadingSlug();
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth }) {
        const plain = this.parser.parseInline(tokens, this.parser.textRenderer);
        return `<h${depth} id="${headingSlug(plain)}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
      },
      // Files beside it are in the repository, not here: their links say where, and lead nowhere.
      link({ href, tokens }) {
        const text = this.parser.parseInline(tokens);
        return /^(#|\/|https?:)/.test(href) ? `<a href="${href}">${text}</a>` : `${text} (docs/${href})`;
      },
      code({ text }) {
        return `<pre tabindex="0"><code>${escapeHtml(text)}</code></pre>\n`;
      },
    },
  });
  // A wide table scrolls by itself, and each is a place of its own to a screen reader.
  const html = await marked.parse(readFileSync(operationsFile, 'utf8'));
  let tables = 0;
  return html
    .replaceAll('<table>', () => {
      tables += 1;
      return `<div class="scroll" role="region" aria-label="Table ${tables}" tabindex="0"><table>`;
    })
    .replaceAll('</table>', '</table></div>');
}

const escapeHtml = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

async function loadHeadingSlug() {
  // Node 20 does not run TypeScript.
  const { outputFiles } = await build({
    entryPoints: ['src/live/heading_slug.ts'],
    format: 'esm',
    write: false,
  });
  const text = Buffer.from(outputFiles[0].contents).toString('base64');
  return (await import(`data:text/javascript;base64,${text}`)).headingSlug;
}
