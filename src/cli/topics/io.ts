// What `ess topics` uses of its process, so that tests can give it another.

import type { Readable, Writable } from 'node:stream';

export interface TopicsIo {
  readonly env: NodeJS.ProcessEnv;
  /** Cores of the machine, for the defaults of `serve`. */
  readonly cores: number;
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable;
  readonly stderr: Writable & { readonly isTTY?: boolean };
  /** Ends what only watches. */
  readonly signal: AbortSignal;
}
