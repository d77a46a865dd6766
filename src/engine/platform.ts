// A check before anything else is loaded: uWebSockets.js comes as one binary per Node.js version and needs a glibc
// that is new enough. Where it does not load, the words of the dynamic linker help nobody.

import { EssError } from '../errors.ts';

/** Oldest glibc for each major version of Node.js that has a binary; found by loading them (Debian 12 has 2.36). */
const glibcNeeded: Readonly<Record<string, string>> = { '20': '2.36', '22': '2.38', '24': '2.38' };

/** Throws `platform_unsupported` with the versions that would do. */
export async function checkPlatform(): Promise<void> {
  try {
    await import('uWebSockets.js');
  } catch (error) {
    const report = process.report.getReport() as {
      readonly header: { readonly glibcVersionRuntime?: string };
    };
    const here = `Node.js ${process.version}, ${process.platform}-${process.arch}, glibc ${report.header.glibcVersionRuntime ?? 'none'}`;
    const would = Object.entries(glibcNeeded)
      .map(([node, glibc]) => `Node.js ${node} with glibc ${glibc} or newer`)
      .join(', ');
    throw new EssError(
      'platform_unsupported',
      `uWebSockets.js does not load on ${here}; on Linux it needs ${would}`,
      { cause: error },
    );
  }
}
