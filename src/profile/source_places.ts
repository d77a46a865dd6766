// Where in the TypeScript sources a place of the built code is. Runs in the thread that finishes a profile; reads only
// the source maps of files that occur in it.

import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload, type SourceMapping } from 'node:module';
import { dirname, relative, resolve } from 'node:path';

/** A function in a file. */
export interface Place {
  readonly name: string;
  /** Below the package's own folder relative to it (`src/ring/writer.ts`), else as V8 names it; empty in native code. */
  readonly file: string;
  /** From 1; 0 if unknown. */
  readonly line: number;
}

/** What findEntry gives, nothing where the map knows nothing; @types/node leaves out the name. */
type MapEntry = Partial<SourceMapping> & { readonly name?: string };

/** How pprof's encoder names a function without a name. */
const anonymousForm = /^\(anonymous(:L#\d+(:C#\d+)?)?\)$/;

export class SourcePlaces {
  readonly #root: string;
  readonly #maps = new Map<string, SourceMap | null>();

  /** @param root the package's folder */
  constructor(root: string) {
    this.#root = root;
  }

  /** @param column from 1; 0 if unknown */
  placeOf(name: string, file: string, line: number, column: number): Place {
    // What V8 knows as a URL reaches us as its path, still percent-encoded.
    const path = file.includes('%') ? decoded(file) : file;
    const map = line > 0 ? this.#mapOf(path) : null;
    const entry: MapEntry = map?.findEntry(line - 1, Math.max(0, column - 1)) ?? {};
    const { originalSource, originalLine, name: written } = entry;
    if (originalSource === undefined || originalLine === undefined) return this.#placeAt(name, path, line);
    // esbuild renames what would collide in one file (`read2`); the map keeps the name that was written.
    const isRenamed = written !== undefined && written !== '' && name.startsWith(written);
    return this.#placeAt(
      isRenamed ? written : name,
      resolve(dirname(path), originalSource),
      originalLine + 1,
    );
  }

  #placeAt(name: string, path: string, line: number): Place {
    const isAnonymous = name === '' || anonymousForm.test(name);
    // A function of a native addon: V8 knows neither name nor file.
    if (isAnonymous && path === '') return { name: '(native)', file: '', line: 0 };
    const inRoot = relative(this.#root, path);
    return {
      name: isAnonymous ? (line > 0 ? `(anonymous:L#${line})` : '(anonymous)') : name,
      file: path.startsWith('/') && !inRoot.startsWith('..') ? inRoot : path,
      line,
    };
  }

  #mapOf(path: string): SourceMap | null {
    const known = this.#maps.get(path);
    if (known !== undefined) return known;
    const map =
      path.startsWith(this.#root) && !path.includes('/node_modules/') ? readMap(`${path}.map`) : null;
    this.#maps.set(path, map);
    return map;
  }
}

/** Null if there is none: places then stay those of the built code. */
function readMap(path: string): SourceMap | null {
  try {
    // The file that our own build has written beside the code.
    return new SourceMap(JSON.parse(readFileSync(path, 'utf8')) as SourceMapPayload);
  } catch {
    return null;
  }
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
