// A small disk for tests that fill it: a file system in memory, mounted on a folder. It takes root on Linux.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmdirSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MiB = 1024 * 1024;

/** Options for a test that needs one: skipped, loudly, where none can be mounted; with ESS_REQUIRE_ALL=1 a failure. */
export function needsSmallDisk(): { readonly skip: string | false } {
  const folder = mkdtempSync(join(tmpdir(), 'ess-disk-'));
  try {
    new SmallDisk(folder, 1).unmount();
    return { skip: false };
  } catch {
    const why = 'a small tmpfs cannot be mounted here (that takes root on Linux)';
    assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', why);
    console.error(`SKIPPED: ${why}`);
    return { skip: why };
  } finally {
    rmdirSync(folder);
  }
}

export class SmallDisk {
  readonly #path: string;
  readonly #ballast: string;

  /** Mounts it on a folder that is there. Throws if this user may not. */
  constructor(path: string, sizeMiB: number) {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMiB}m`, 'tmpfs', path], { stdio: 'ignore' });
    this.#path = path;
    this.#ballast = join(path, 'ballast');
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.#path);
    return bavail * bsize;
  }

  /** Writes a file that leaves so many bytes, as somebody would who forgets a dump there. */
  fill(leftBytes: number): void {
    const file = openSync(this.#ballast, 'a');
    try {
      const chunk = Buffer.alloc(MiB, 1);
      for (let left = this.freeBytes - leftBytes; left > 0; left = this.freeBytes - leftBytes)
        writeSync(file, chunk, 0, Math.min(left, chunk.length));
    } catch (error) {
      // Others write too: what there was is gone, as it was to be.
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
    } finally {
      closeSync(file);
    }
  }

  /** Removes that file. */
  relieve(): void {
    rmSync(this.#ballast, { force: true });
  }

  unmount(): void {
    execFileSync('umount', ['-l', this.#path]);
  }
}
