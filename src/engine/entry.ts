// Where the built worker entries and the page are: all entries sit flat in one folder, the page in a folder beside them,
// and esbuild leaves this URL alone.

import { fileURLToPath } from 'node:url';

/** The file of a worker entry, by its name without the ending. */
export function entryFile(name: string): URL {
  return new URL(`./${name}.js`, import.meta.url);
}

/** The folder with the files of the page. */
export function pageFolder(): string {
  return fileURLToPath(new URL('./page/', import.meta.url));
}
