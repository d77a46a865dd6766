// Files for tests of the configuration, in a folder that is removed at their end; and how a refusal is asserted.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { EssError } from '../../src/errors.ts';

/** A folder of the calling test file. */
export const folder = mkdtempSync(join(tmpdir(), 'ess-config-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;

/** A new file with this text, or with this value as JSON; gives its path. */
export function file(content: unknown): string {
  files += 1;
  const path = join(folder, `file-${files}`);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

/**
 * Asserts that `work` is refused as a bad option, and that the message has every one of these parts in it and nothing
 * of `secret`.
 */
export function refusesOption(work: () => unknown, parts: readonly string[], secret?: string): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof EssError);
    assert.equal(error.code, 'bad_option');
    for (const part of parts) assert.ok(error.message.includes(part), `${part} is not in: ${error.message}`);
    if (secret !== undefined) assert.ok(!error.message.includes(secret), error.message);
    return true;
  });
}
