// Loads chDB, the optional dependency behind the embedded store. Runs on the main thread first and then on every
// thread that opens the store; nothing here is reached where ClickHouse nodes are configured.

import { EssError } from '../errors.ts';

export type ChdbModule = typeof import('chdb');
export type ChdbSession = InstanceType<ChdbModule['Session']>;

/** chDB's module on this thread. Throws `platform_unsupported` where it is not installed or does not load. */
export async function loadEmbeddedEngine(): Promise<ChdbModule> {
  try {
    return await import('chdb');
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new EssError(
      'platform_unsupported',
      `The embedded store needs the package chdb, which does not load here: run "npm install chdb", or configure ` +
        `ClickHouse nodes instead. ${detail}`,
      { cause: error },
    );
  }
}

/**
 * Keeps the engine's library loaded for as long as the process lives. The main thread must have called this before
 * any worker opens an embedded store: a library that is first loaded in a worker is unloaded when that worker ends,
 * while threads of the engine still run in it, and the process dies of a segmentation fault.
 */
export async function pinEmbeddedEngine(): Promise<void> {
  await loadEmbeddedEngine();
}
