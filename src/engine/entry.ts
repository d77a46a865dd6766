// Where the built worker entries are: all entries sit flat in one folder, and esbuild leaves this URL alone.

/** The file of a worker entry, by its name without the ending. */
export function entryFile(name: string): URL {
  return new URL(`./${name}.js`, import.meta.url);
}
