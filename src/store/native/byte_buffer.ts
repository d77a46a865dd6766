// A growing run of bytes that is reused from block to block. Runs on sink threads, and is the innermost part of the
// copy from packed records into columns: appending allocates nothing unless the buffer has to grow or the part is long.

import { EssError } from '../../errors.ts';
import { varuintBytesMax, writeVaruint } from './layout.ts';

/** Positions are kept in 32 bits by the columns. A block is closed long before (option sink-batch-bytes-max). */
const bytesMax = 2 ** 32 - 1;

/**
 * Parts up to this long are copied in a loop, longer ones by TypedArray.set. The loop costs 0.3 ns a byte and nothing
 * to start; `set` needs a subarray object and about 90 ns, whatever the length. Both measured on Node 20; they meet
 * between 200 and 300 bytes.
 */
const loopBytesMax = 256;

let viewed: Uint8Array = new Uint8Array(0);
let view = new DataView(viewed.buffer);

/** The DataView over `bytes`; all parts of one packed record, and mostly of many, come from the same buffer. */
function viewOf(bytes: Uint8Array): DataView {
  if (bytes !== viewed) {
    viewed = bytes;
    view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  return view;
}

export class ByteBuffer {
  #bytes: Buffer;
  #view: DataView;
  #used = 0;

  constructor(initialBytes: number) {
    this.#bytes = Buffer.allocUnsafeSlow(initialBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Bytes appended so far. */
  get used(): number {
    return this.#used;
  }

  /** The whole buffer; only its first `used` bytes mean something. Another one after an append that grows it. */
  get buffer(): Buffer {
    return this.#bytes;
  }

  /** A view of what was appended; valid until the next change. */
  get content(): Buffer {
    return this.#bytes.subarray(0, this.#used);
  }

  /** Cuts back to an earlier `used`. */
  truncate(used: number): void {
    this.#used = used;
  }

  /** Appends the length of a part as varuint, then the part `source[start, end)`. */
  appendSized(source: Uint8Array, start: number, end: number): void {
    const length = end - start;
    if (this.#used + varuintBytesMax + length > this.#bytes.length) this.#grow(varuintBytesMax + length);
    const target = this.#bytes;
    let to = writeVaruint(target, this.#used, length);
    if (length > loopBytesMax) {
      target.set(source.subarray(start, end), to);
      this.#used = to + length;
      return;
    }
    let from = start;
    if (length >= 8) {
      const words = this.#view;
      const sourceWords = viewOf(source);
      // Two Int32 and not one Float64, which may change the bits of a NaN on the way.
      for (const last = end - 8; from <= last; from += 8, to += 8) {
        words.setInt32(to, sourceWords.getInt32(from, true), true);
        words.setInt32(to + 4, sourceWords.getInt32(from + 4, true), true);
      }
    }
    for (; from < end; from += 1, to += 1) target[to] = source[from] ?? 0;
    this.#used = to;
  }

  /** Appends the length of a text in UTF-8 as varuint, then the text. A lone surrogate becomes U+FFFD. */
  appendSizedText(text: string): void {
    const length = Buffer.byteLength(text);
    if (this.#used + varuintBytesMax + length > this.#bytes.length) this.#grow(varuintBytesMax + length);
    const to = writeVaruint(this.#bytes, this.#used, length);
    this.#used = to + this.#bytes.write(text, to);
  }

  #grow(neededBytes: number): void {
    const needed = this.#used + neededBytes;
    if (needed > bytesMax) throw new EssError('internal', 'a column of a block exceeds 4 GiB');
    let size = this.#bytes.length * 2;
    while (size < needed) size *= 2;
    const larger = Buffer.allocUnsafeSlow(Math.min(size, bytesMax));
    larger.set(this.content);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}
