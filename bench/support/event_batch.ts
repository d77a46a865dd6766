// Events to measure with: NDJSON, about 176 bytes each, in ESS's shape or in that of the service which ESS replaces (the
// peers read that one). The text is made once; a new batch only stamps other digits into it, which costs some 50 ns an
// event, so that the generator stays cheap.

const types = ['click', 'view', 'purchase', 'signup', 'search', 'scroll'];
const countries = ['DE', 'FR', 'US', 'IN', 'BR', 'JP', 'NG', 'SE'];

const iterationDigits = 9;
const userDigits = 6;
const pageDigits = 4;
const amountDigits = 4;

/** `ours`: names that ESS knows, and free data. `peer`: what bench/peers/app.py asks for. */
export type EventShape = 'ours' | 'peer';

interface Shape {
  /** The line of an event, with zeros where digits are stamped. */
  readonly line: (run: number, type: string, country: string) => string;
  /** What stands before the digits of the page and of the amount. */
  readonly pageMark: string;
  readonly amountMark: string;
  /** True if ESS takes the user as the event's subject. */
  readonly hasSubject: boolean;
}

const shapes: Readonly<Record<EventShape, Shape>> = {
  ours: {
    line: (run, type, country) =>
      `{"id":"event-${padded(run)}-000000000","type":"${type}","subject":"user-000000","ingest_time":"2025-12-24T09:43:54.121Z","data":{"page":"/products/0000","country":"${country}","amount":1000}}\n`,
    pageMark: 'products/',
    amountMark: '"amount":',
    hasSubject: true,
  },
  peer: {
    line: (run, type, country) =>
      `{"id":"event-${padded(run)}-000000000","user_id":"user-000000","type":"${type}","timestamp":"2025-12-24T09:43:54.121Z","payload":"/products/0000?country=${country}&amount=1000&ref=home-page"}\n`,
    pageMark: 'products/',
    amountMark: 'amount=',
    hasSubject: false,
  },
};

function padded(run: number): string {
  return String(run).padStart(8, '0');
}

/** A batch of events with distinct ids, one a line. */
export class EventBatch {
  /** The batch as NDJSON. */
  readonly bytes: Buffer;
  readonly count: number;
  /** For each event: where its line begins, ends (before the line feed), and where the digits stand. */
  readonly #lineAt: Uint32Array;
  readonly #iterationAt: Uint32Array;
  readonly #userAt: Uint32Array;
  readonly #pageAt: Uint32Array;
  readonly #amountAt: Uint32Array;
  readonly #types: string[] = [];
  readonly #hasSubject: boolean;
  #random: number;

  /** `run` (0 to 99,999,999) goes into every id, so that batches of different runs have no id in common. */
  constructor(count: number, run: number, shape: EventShape = 'ours') {
    const { line: lineOf, pageMark, amountMark, hasSubject } = shapes[shape];
    this.#hasSubject = hasSubject;
    this.count = count;
    this.#random = run + 1;
    this.#lineAt = new Uint32Array(count + 1);
    this.#iterationAt = new Uint32Array(count);
    this.#userAt = new Uint32Array(count);
    this.#pageAt = new Uint32Array(count);
    this.#amountAt = new Uint32Array(count);
    const lines: string[] = [];
    let at = 0;
    for (let i = 0; i < count; i += 1) {
      const type = types[this.#next(types.length)] ?? 'click';
      const line = lineOf(run, type, countries[this.#next(countries.length)] ?? 'DE');
      this.#types.push(type);
      this.#lineAt[i] = at;
      this.#iterationAt[i] = at + line.indexOf('-000000000') + 1;
      this.#userAt[i] = at + line.indexOf('user-') + 5;
      this.#pageAt[i] = at + line.indexOf(pageMark) + pageMark.length;
      this.#amountAt[i] = at + line.indexOf(amountMark) + amountMark.length;
      at += line.length;
      lines.push(line);
    }
    this.#lineAt[count] = at;
    this.bytes = Buffer.from(lines.join(''), 'latin1');
  }

  /** Makes these the events `first` to `first + count - 1` of the run, with other users, pages and amounts. */
  stamp(first: number): void {
    for (let i = 0; i < this.count; i += 1) {
      this.#write(this.#iterationAt[i] ?? 0, iterationDigits, first + i);
      this.#write(this.#userAt[i] ?? 0, userDigits, this.#next(1_000_000));
      this.#write(this.#pageAt[i] ?? 0, pageDigits, this.#next(10_000));
      // A JSON number may not begin with 0.
      this.#write(this.#amountAt[i] ?? 0, amountDigits, 1000 + this.#next(9000));
    }
  }

  lineStart(i: number): number {
    return this.#lineAt[i] ?? 0;
  }

  /** End of the line without its line feed. */
  lineEnd(i: number): number {
    return (this.#lineAt[i + 1] ?? 0) - 1;
  }

  id(i: number): string {
    const iterationAt = this.#iterationAt[i] ?? 0;
    return this.bytes.toString('latin1', this.lineStart(i) + '{"id":"'.length, iterationAt + iterationDigits);
  }

  type(i: number): string {
    return this.#types[i] ?? '';
  }

  /** Empty where the shape has none. */
  subject(i: number): string {
    if (!this.#hasSubject) return '';
    const userAt = this.#userAt[i] ?? 0;
    return this.bytes.toString('latin1', userAt - 'user-'.length, userAt + userDigits);
  }

  /** A repeatable pseudo-random number from 0 to bound - 1. */
  #next(bound: number): number {
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#random / 2 ** 32) * bound);
  }

  #write(at: number, digits: number, value: number): void {
    let rest = value;
    for (let i = at + digits - 1; i >= at; i -= 1) {
      const tens = Math.floor(rest / 10);
      this.bytes[i] = 48 + rest - tens * 10;
      rest = tens;
    }
  }
}
