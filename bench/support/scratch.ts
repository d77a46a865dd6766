// A folder for everything that a bench's servers write, the test cluster's included, on the disk that --dir names. It
// goes away with the bench, however that one ends.

import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchOptions } from './options.ts';
import { processTree } from './process_usage.ts';

/** Long enough for a killed process to be gone, so that it does not make files in a folder that is being removed. */
const removal = { recursive: true, force: true, maxRetries: 10, retryDelay: 100 } as const;

export class Scratch {
  readonly folder: string;
  readonly #onExit: () => void;

  /** From now on os.tmpdir() is this folder, here and in what is started from here. */
  constructor(options: BenchOptions<string>) {
    const folder = mkdtempSync(join(options.dir, 'ess-bench-'));
    this.folder = folder;
    process.env['TMPDIR'] = folder;
    this.#onExit = () => {
      // After an interrupt servers still run.
      for (const pid of processTree(process.pid)) if (pid !== process.pid) killIfThere(pid);
      rmSync(folder, removal);
    };
    // Before the handlers of what lies in it, which find it gone and have nothing to do.
    process.prependOnceListener('exit', this.#onExit);
  }

  /** Removes it. Whatever wrote there must have ended. */
  remove(): void {
    process.removeListener('exit', this.#onExit);
    rmSync(this.folder, removal);
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended since it was seen.
  }
}
