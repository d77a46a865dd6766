// The profilers of one thread: where its time goes, sampled on request, and what lives on its heap, sampled from the
// start. It runs in the thread that it looks at, main or worker, and only encodes there: names and compression are
// the work of profile.worker.ts.

import { loadPprof, type Pprof } from './native.ts';

/**
 * Time between two samples of the stack, microseconds: 100 a second, as in Go's profiles, cost 2 to 4 % of a busy
 * thread's time; 1000 a second cost 11 % and say little more after ten seconds (docs/profiles.md).
 */
const timeIntervalUs = 10_000;
/** Longest time profile, ms; the profiler sizes its buffer of samples by it. A little more than a request may ask for. */
const timeProfileMsMax = 90_000;
/** Bytes allocated between two samples of the heap: V8's and Go's default, 1 to 2 % of a loop that only allocates. */
const heapIntervalBytes = 512 * 1024;
/** Frames of a stack that are kept with an allocation. */
const heapStackDepth = 64;

export class Profiler {
  readonly #pprof: Pprof;
  /** Gives each frame back as it is in the built code, with its column: profile/source_places.ts translates it. */
  readonly #asBuilt: InstanceType<Pprof['SourceMapper']>;

  /** Loads the package and begins to sample the heap. Rejects with `platform_unsupported`. Once in a thread. */
  static async open(): Promise<Profiler> {
    const pprof = await loadPprof();
    pprof.heap.start(heapIntervalBytes, heapStackDepth);
    return new Profiler(pprof);
  }

  private constructor(pprof: Pprof) {
    this.#pprof = pprof;
    // The encoder writes columns only of frames whose source map it was told is elsewhere, which is the case here.
    // Mapping in this thread would mean to parse all maps, 0.2 s on the main thread.
    this.#asBuilt = new (class extends pprof.SourceMapper {
      override mappingInfo(location: GeneratedPlace): GeneratedPlace & { readonly missingMapFile: true } {
        return { ...location, missingMapFile: true };
      }
    })();
  }

  /** Begins a time profile; one that is under way is dropped. Holds the thread up for some 20 ms, as V8 needs. */
  startTime(): void {
    this.dropTime();
    this.#pprof.time.start({
      durationMillis: timeProfileMsMax,
      intervalMicros: timeIntervalUs,
      sourceMapper: this.#asBuilt,
      columnNumbers: 'emit',
      // CPU time beside wall time; the profiler keeps it with the contexts.
      withContexts: true,
      collectCpuTime: true,
    });
  }

  /** Ends the time profile and gives it as profile.proto; null if none is under way. */
  stopTime(): Uint8Array<ArrayBuffer> | null {
    if (!this.#pprof.time.isStarted()) return null;
    return owned(this.#pprof.time.stop().encode());
  }

  dropTime(): void {
    if (this.#pprof.time.isStarted()) this.#pprof.time.stop();
  }

  /** The live allocations as profile.proto. */
  heap(): Uint8Array<ArrayBuffer> {
    return owned(this.#pprof.heap.profile(undefined, this.#asBuilt, undefined, 'emit').encode());
  }
}

type GeneratedPlace = Parameters<InstanceType<Pprof['SourceMapper']>['mappingInfo']>[0];

/** The same bytes in memory that can be given to another thread. */
function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteLength } = bytes;
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength
    ? new Uint8Array(buffer)
    : new Uint8Array(bytes);
}
