// Loads chDB, the optional dependency behind the embedded store. Runs on the main thread first and then on every
// thread that opens the store; nothing here is reached where ClickHouse nodes are configured.

import { EssError } from '../errors.ts';
import { EngineGate } from './engine_gate.ts';

export type ChdbModule = typeof import('chdb');
export type ChdbSession = InstanceType<ChdbModule['Session']>;

/** chDB on this thread. */
export interface EmbeddedEngine {
  readonly chdb: ChdbModule;
  readonly gate: EngineGate;
}

/**
 * Loads chDB on this thread. Throws `platform_unsupported` where it is not installed or does not load, and `internal`
 * on a worker if the main thread has not called `pinEmbeddedEngine`.
 */
export async function loadEmbeddedEngine(): Promise<EmbeddedEngine> {
  const gate = EngineGate.ofProcess();
  gate.markLoaded();
  try {
    return { chdb: await import('chdb'), gate };
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
 * To be called on the main thread before it starts a worker that opens an embedded store. It keeps the engine's
 * library loaded for as long as the process lives: a library that is first loaded in a worker is unloaded when that
 * worker ends, while threads of the engine still run in it, and the process dies of a segmentation fault. It also
 * makes the gate by which workers may end one by one (engine_gate.ts).
 */
export async function pinEmbeddedEngine(): Promise<void> {
  await loadEmbeddedEngine();
}

/**
 * Runs `action` while no thread is inside the engine; requests wait meanwhile. Whatever terminates a worker that may
 * have an embedded store (`worker.terminate()`, `piscina.destroy()`) has to be done in here. Workers that end without
 * a statement of their own under way need nothing, whether they have closed their store or not.
 */
export async function whileEngineIdle<T>(action: () => Promise<T>): Promise<T> {
  return EngineGate.ofProcess().whileIdle(action);
}
