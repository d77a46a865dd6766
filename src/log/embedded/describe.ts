// What is to be seen of the embedded log from outside: the disk it lies on. Runs on the main thread when somebody looks.

import { statfs } from 'node:fs/promises';
import type { LogDescriber, LogDescription } from '../log.ts';

export class EmbeddedDescriber implements LogDescriber {
  readonly #path: string;

  /** @param path the log's directory */
  constructor(path: string) {
    this.#path = path;
  }

  async describe(): Promise<LogDescription> {
    const { bavail, blocks, bsize } = await statfs(this.#path);
    return {
      brokers: [],
      partitions: [],
      minInSyncReplicas: null,
      group: null,
      disk: { freeBytes: bavail * bsize, totalBytes: blocks * bsize },
    };
  }

  async close(): Promise<void> {}
}
