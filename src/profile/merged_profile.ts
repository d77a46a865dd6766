// The profiles of several threads as one, in which every sample says its thread and every function is named as in the
// sources. Pure work on bytes; runs in the thread that finishes a profile.

import {
  Label,
  Line,
  Location,
  Mapping,
  Function as PprofFunction,
  Profile,
  Sample,
  StringTable,
  ValueType,
} from 'pprof-format';
import { EssError } from '../errors.ts';
import type { SourcePlaces } from './source_places.ts';

/** What one thread gave. */
export interface ThreadProfile {
  readonly thread: string;
  /** profile.proto, as Profiler gives it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The one mapping: says that names, files and lines are known, so that pprof looks for no binary. */
const mappingId = 1;

/** The label of every sample, whose value is the thread's name. */
export const threadLabel = 'thread';

/** One profile of at least one part, all of the same kind. Throws `internal` if they are not. */
export function mergedProfile(parts: readonly ThreadProfile[], places: SourcePlaces): Profile {
  const merger = new Merger(places);
  for (const { thread, bytes } of parts) merger.add(thread, Profile.decode(bytes));
  return merger.profile();
}

type Numeric = number | bigint;

class Merger {
  readonly #places: SourcePlaces;
  readonly #strings = new StringTable();
  readonly #functions = new Map<string, PprofFunction>();
  readonly #locations = new Map<string, Location>();
  readonly #samples: Sample[] = [];
  #sampleTypes: readonly string[] | null = null;
  #periodType: ValueType | null = null;
  #period = 0;
  #startNanos = Number.POSITIVE_INFINITY;
  #durationNanos = 0;

  constructor(places: SourcePlaces) {
    this.#places = places;
  }

  add(thread: string, part: Profile): void {
    const { strings } = part.stringTable;
    const text = (index: Numeric): string => strings[Number(index)] ?? '';
    const types = part.sampleType.map(({ type, unit }) => `${text(type)}/${text(unit)}`);
    this.#sampleTypes ??= types;
    if (types.join() !== this.#sampleTypes.join()) {
      throw new EssError('internal', `${thread} counts ${types}, the others ${this.#sampleTypes}`);
    }
    if (part.periodType !== undefined) {
      const { type, unit } = part.periodType;
      this.#periodType ??= this.#valueType(`${text(type)}/${text(unit)}`);
    }
    // Threads differ a little in both: their samples carry values of their own already.
    this.#period = Math.max(this.#period, Number(part.period));
    const durationNanos = Number(part.durationNanos);
    // The encoder writes down when it ended; the format means when it began.
    this.#startNanos = Math.min(this.#startNanos, Number(part.timeNanos) - durationNanos);
    this.#durationNanos = Math.max(this.#durationNanos, durationNanos);

    const functions = new Map(part.function.map((entry) => [Number(entry.id), entry]));
    const locationIds = new Map<number, Numeric>();
    for (const { id, line } of part.location) {
      const frame = line[0];
      const named = functions.get(Number(frame?.functionId));
      const mapped = this.#location(
        text(named?.name ?? 0),
        text(named?.filename ?? 0),
        Number(frame?.line ?? 0),
        Number(frame?.column ?? 0),
      );
      locationIds.set(Number(id), mapped.id);
    }
    const label = new Label({ key: this.#strings.dedup(threadLabel), str: this.#strings.dedup(thread) });
    for (const { locationId, value } of part.sample) {
      const ids = locationId.map((id) => locationIds.get(Number(id)) ?? 0);
      this.#samples.push(new Sample({ locationId: ids, value, label: [label] }));
    }
  }

  profile(): Profile {
    if (this.#sampleTypes === null) throw new EssError('internal', 'a profile of no thread');
    return new Profile({
      sampleType: this.#sampleTypes.map((type) => this.#valueType(type)),
      sample: this.#samples,
      mapping: [
        new Mapping({
          id: mappingId,
          filename: this.#strings.dedup('ess'),
          hasFunctions: true,
          hasFilenames: true,
          hasLineNumbers: true,
        }),
      ],
      location: [...this.#locations.values()],
      function: [...this.#functions.values()],
      stringTable: this.#strings,
      timeNanos: BigInt(Math.round(this.#startNanos)),
      durationNanos: Math.round(this.#durationNanos),
      ...(this.#periodType === null ? {} : { periodType: this.#periodType }),
      period: this.#period,
    });
  }

  #location(name: string, file: string, line: number, column: number): Location {
    const place = this.#places.placeOf(name, file, line, column);
    const functionKey = `${place.file}\0${place.name}`;
    let named = this.#functions.get(functionKey);
    if (named === undefined) {
      const nameIndex = this.#strings.dedup(place.name);
      named = new PprofFunction({
        id: this.#functions.size + 1,
        name: nameIndex,
        systemName: nameIndex,
        filename: this.#strings.dedup(place.file),
        startLine: place.line,
      });
      this.#functions.set(functionKey, named);
    }
    const locationKey = `${named.id}:${place.line}`;
    let location = this.#locations.get(locationKey);
    if (location === undefined) {
      const line = new Line({ functionId: named.id, line: place.line });
      location = new Location({ id: this.#locations.size + 1, mappingId, line: [line] });
      this.#locations.set(locationKey, location);
    }
    return location;
  }

  #valueType(text: string): ValueType {
    const [type = '', unit = ''] = text.split('/');
    return new ValueType({ type: this.#strings.dedup(type), unit: this.#strings.dedup(unit) });
  }
}
