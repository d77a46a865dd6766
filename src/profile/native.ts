// The profiler package (@datadog/pprof: V8's samplers behind a native addon), loaded only by threads of a service whose
// profiles are on. Each thread has a V8 of its own, so each one loads it for itself.

import { EssError } from '../errors.ts';

/** The loader names every file that it looked for. */
const reasonCharsMax = 600;

export type Pprof = typeof import('@datadog/pprof');

/** Rejects with `platform_unsupported`, whose message says what was tried. */
export async function loadPprof(): Promise<Pprof> {
  try {
    return await import('@datadog/pprof');
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const why = text.replace(/\s+/g, ' ').slice(0, reasonCharsMax);
    const here = `Node.js ${process.version} (ABI ${process.versions.modules}), ${process.platform}-${process.arch}`;
    throw new EssError(
      'platform_unsupported',
      `profiles need the optional package @datadog/pprof, which does not load on ${here}: ${why}`,
      { cause: error },
    );
  }
}
