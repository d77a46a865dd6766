// Entry of a thread that finishes one profile and ends: source maps, the merge and gzip take longer than the main thread
// may be held up, and than the threads that were profiled should be.

import { fileURLToPath } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { gzipSync } from 'node:zlib';
import { mergedProfile, type ThreadProfile } from './merged_profile.ts';
import { SourcePlaces } from './source_places.ts';

/** What the engine gives it; the answer is one Uint8Array, the gzipped profile. */
export interface ProfileData {
  readonly parts: readonly ThreadProfile[];
}

// Only the engine starts this file.
const { parts } = workerData as ProfileData;
// The built entries lie in one folder of the package.
const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const profile = mergedProfile(parts, new SourcePlaces(root));
const bytes = new Uint8Array(gzipSync(profile.encode()));
parentPort?.postMessage(bytes, [bytes.buffer]);
