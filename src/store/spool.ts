// The files through which bytes go into chDB and out of it. An INSERT's data that stands in the statement itself is cut
// at the first blank line, which destroys Native blocks silently; the result of a blocking call comes as a C string.
// Runs on the thread that makes the request, synchronously: the target is memory (/dev/shm), and the few threads of
// libuv's pool are needed for the queries themselves.

import { createHash, randomUUID } from 'node:crypto';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Memory first; where it is missing or full, the directory for temporary files. */
const folders: readonly string[] = ['/dev/shm', tmpdir()];

/** A clock may be set while we run: a file must be older than the process by this much to count as left behind. */
const clockToleranceMs = 1000;

export class Spool {
  /** ess-spool-<data directory>-: only one process at a time can have that directory open. */
  readonly #prefix: string;

  /** `dataPath` is the directory of the chDB database, which this process has opened. */
  constructor(dataPath: string) {
    const id = createHash('sha256').update(realpathSync(dataPath)).digest('hex').slice(0, 16);
    this.#prefix = `ess-spool-${id}-`;
  }

  /**
   * Removes what earlier processes on the same data directory left behind when they were killed. A process id alone
   * would not tell: it is 1 in every container, and numbers come back. The engine's lock does: whoever wrote a file
   * with another process id, or before this process began, is gone.
   */
  removeStale(): void {
    const ours = `${this.#prefix}${process.pid}-`;
    const startedMs = Date.now() - process.uptime() * 1000 - clockToleranceMs;
    for (const folder of folders) {
      for (const name of namesIn(folder)) {
        if (!name.startsWith(this.#prefix)) continue;
        const file = join(folder, name);
        if (!name.startsWith(ours) || modifiedMs(file) < startedMs) rmSync(file, { force: true });
      }
    }
  }

  /** The path of a file that is not there yet, for the engine to write; the caller removes it. */
  reserve(): string {
    return join(folders.find(existsSync) ?? tmpdir(), this.#newName());
  }

  /** Writes the pieces one after the other into a new file and gives its path; the caller removes it. */
  write(pieces: readonly Uint8Array[]): string {
    const name = this.#newName();
    let failure: unknown;
    for (const folder of folders) {
      const file = join(folder, name);
      try {
        writeAll(file, pieces);
        return file;
      } catch (error) {
        rmSync(file, { force: true });
        failure = error;
      }
    }
    throw failure;
  }

  /** The bytes of a file that the engine has written. */
  read(file: string): Buffer {
    return readFileSync(file);
  }

  /** Never throws: the request is over, and a file that cannot be removed now goes at the next start. */
  remove(file: string): void {
    try {
      rmSync(file, { force: true });
    } catch {}
  }

  #newName(): string {
    return `${this.#prefix}${process.pid}-${randomUUID()}`;
  }
}

function writeAll(file: string, pieces: readonly Uint8Array[]): void {
  // 'wx' never follows what somebody else has put under that name; the rows are for this user's eyes only.
  const handle = openSync(file, 'wx', 0o600);
  try {
    for (const piece of pieces) {
      let written = 0;
      while (written < piece.length) written += writeSync(handle, piece, written);
    }
  } finally {
    closeSync(handle);
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Infinity for a file that is gone meanwhile. */
function modifiedMs(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY;
}
