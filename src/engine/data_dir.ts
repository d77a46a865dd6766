// The data directory: where the embedded log and the embedded store are, and in which format.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EssError } from '../errors.ts';
import { schemaVersion } from '../store/schema.ts';

export interface DataDir {
  readonly logPath: string;
  readonly storePath: string;
}

/** Formats that differ from the present one by columns only, which are added when the store is opened. */
const extensibleVersions: readonly unknown[] = [2];

/**
 * Creates the directory if it is missing; `bad_option` if that fails. An earlier format that can be extended is
 * recorded as the present one; any other throws `format_unknown`.
 */
export function openDataDir(path: string): DataDir {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new EssError('bad_option', `--data-dir: ${detail}`, { cause: error });
  }
  const formatFile = join(path, 'format.json');
  let text: string | null = null;
  try {
    text = readFileSync(formatFile, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const version = text === null ? null : readVersion(text);
  if (version === null || extensibleVersions.includes(version)) {
    writeFileSync(formatFile, `${JSON.stringify({ schema_version: schemaVersion })}\n`);
  } else if (version !== schemaVersion) {
    throw new EssError(
      'format_unknown',
      `${path} has schema version ${version}, this ESS knows ${schemaVersion}`,
    );
  }
  return { logPath: join(path, 'log'), storePath: join(path, 'store') };
}

function readVersion(text: string): unknown {
  try {
    return (JSON.parse(text) as { readonly schema_version?: unknown }).schema_version;
  } catch {
    return `unreadable (${text.slice(0, 40)})`;
  }
}
