// Runs `ess dlq` as a user does: the built file in a process of its own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface DlqEnd {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
  /** The lines of standard output. */
  readonly lines: readonly string[];
}

export async function dlq(url: string, argv: readonly string[], input = ''): Promise<DlqEnd> {
  const entry = fileURLToPath(new URL('./ess.js', import.meta.url));
  const child = spawn(process.execPath, ['--enable-source-maps', entry, 'dlq', ...argv, '--url', url]);
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, out, err, lines: out.split('\n').filter((line) => line !== '') };
}

/** One line of `list --json` or of GET /dead-letters. */
export interface LetterJson {
  readonly partition: number;
  readonly offset: number;
  readonly code: string;
  readonly reason: string;
  readonly id: string | null;
  readonly state: string;
  readonly discard_reason?: string;
  readonly replayed_to?: { readonly partition: number; readonly offset: number };
}

/** Letters of this state, by `ess dlq list`. */
export async function listed(url: string, state = 'parked'): Promise<LetterJson[]> {
  const { code, lines, err } = await dlq(url, ['list', '--json', '--state', state]);
  assert.equal(code, 0, err);
  return lines.map((line) => JSON.parse(line) as LetterJson);
}

export function positionOf({ partition, offset }: LetterJson): string {
  return `${partition}:${offset}`;
}
