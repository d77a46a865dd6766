// Reads the rows of one file, or of standard input, as a stream: finds out the format, splits, decodes. Whatever is
// wrong with the input comes as a `bad` row, never as an exception, so that the rows before it are still accounted for.

import { isUtf8 } from 'node:buffer';
import { Readable } from 'node:stream';
import { JsonSplitter, type Piece } from './json_splitter.ts';
import { LineSplitter } from './line_splitter.ts';
import type { InputFormat, SendOptions } from './options.ts';
import { type CsvHeader, type Row, type RowCode, rowBytesMax } from './row.ts';

export interface Input {
  /** What the input is called in messages. */
  readonly name: string;
  readonly stream: Readable;
}

type InputOptions = Pick<SendOptions, 'format' | 'items' | 'delimiter'>;

const spacesAndControls = 0x20;
const openBracket = 0x5b;
const openBrace = 0x7b;

/** Every row of the input in order. `onBytes` is told of each chunk that was read. */
export async function* readRows(
  input: Input,
  options: InputOptions,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Row> {
  let row = 0;
  const bad = (line: number, code: RowCode, message: string): Row => {
    row += 1;
    return { type: 'bad', place: { file: input.name, line, row }, code, message };
  };
  const chunks = readChunks(input.stream, onBytes);
  try {
    const { format, isWide, bytes } = await detect(input.name, options.format, chunks);
    if (isWide) {
      yield bad(1, 'bad_input', 'the input is UTF-16, but must be UTF-8');
      return;
    }
    if (format === 'csv') {
      const delimiter = options.delimiter ?? (/\.tsv$/i.test(input.name) ? '\t' : ',');
      for await (const record of readCsv(bytes, delimiter)) {
        if ('code' in record) {
          yield bad(record.line, record.code, record.message);
        } else {
          row += 1;
          const place = { file: input.name, line: record.line, row };
          yield { type: 'csv', place, header: record.header, fields: record.fields };
        }
      }
      return;
    }
    const splitter = format === 'json' ? new JsonSplitter(options.items) : new LineSplitter();
    for await (const pieces of splitAll(bytes, splitter)) {
      for (const piece of pieces) {
        if (piece.type === 'too_large') {
          yield bad(piece.line, 'too_large', `the row has more than ${rowBytesMax} bytes`);
        } else if (piece.type === 'bad_input') {
          yield bad(piece.line, 'bad_input', `${piece.message}; the rest was not read`);
          return;
        } else if (!isUtf8(piece.bytes)) {
          yield bad(piece.line, 'bad_row', 'the row is not valid UTF-8');
        } else {
          row += 1;
          const place = { file: input.name, line: piece.line, row };
          yield { type: 'json', place, text: piece.bytes.toString() };
        }
      }
    }
  } catch (error) {
    // Also an aborted stream: the caller knows that it interrupted.
    yield bad(1, 'bad_input', `the input cannot be read: ${error instanceof Error ? error.message : error}`);
  } finally {
    input.stream.destroy();
  }
}

async function* splitAll(
  bytes: AsyncIterable<Buffer>,
  splitter: JsonSplitter | LineSplitter,
): AsyncGenerator<Iterable<Piece>> {
  for await (const chunk of bytes) yield splitter.push(chunk);
  yield splitter.end();
}

async function* readChunks(stream: Readable, onBytes: (bytes: number) => void): AsyncGenerator<Buffer> {
  for await (const chunk of stream) {
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk);
    onBytes(bytes.length);
    yield bytes;
  }
}

interface Detected {
  readonly format: InputFormat;
  /** True if the input begins with the byte order mark of UTF-16. */
  readonly isWide: boolean;
  /** The whole input without a byte order mark. */
  readonly bytes: AsyncGenerator<Buffer>;
}

async function detect(
  name: string,
  format: InputFormat | 'auto',
  chunks: AsyncGenerator<Buffer>,
): Promise<Detected> {
  // Enough to tell is a byte order mark (3 bytes) and one character that is not blank.
  let head: Buffer = Buffer.alloc(0);
  let first = -1;
  while (head.length < 3 || first < 0) {
    const { value, done } = await chunks.next();
    if (done) break;
    head = Buffer.concat([head, value]);
    const start = markBytes(head);
    first = head.findIndex((byte, i) => i >= start && byte > spacesAndControls);
    if (head.length > rowBytesMax) break;
  }
  const isWide = (head[0] === 0xff && head[1] === 0xfe) || (head[0] === 0xfe && head[1] === 0xff);
  const rest = head.subarray(markBytes(head));
  return {
    format: format === 'auto' ? (formatByName(name) ?? formatByByte(head[first])) : format,
    isWide,
    bytes: (async function* () {
      yield rest;
      yield* chunks;
    })(),
  };
}

function markBytes(head: Buffer): number {
  return head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf ? 3 : 0;
}

function formatByName(name: string): InputFormat | null {
  if (/\.(?:ndjson|jsonl)$/i.test(name)) return 'ndjson';
  if (/\.(?:json|geojson)$/i.test(name)) return 'json';
  return /\.(?:csv|tsv)$/i.test(name) ? 'csv' : null;
}

function formatByByte(byte: number | undefined): InputFormat {
  if (byte === openBracket) return 'json';
  return byte === openBrace || byte === undefined ? 'ndjson' : 'csv';
}

type CsvRecord =
  | { readonly line: number; readonly header: CsvHeader; readonly fields: readonly string[] }
  | { readonly line: number; readonly code: RowCode; readonly message: string };

async function* readCsv(bytes: AsyncIterable<Buffer>, delimiter: string): AsyncGenerator<CsvRecord> {
  // Imported here because the bundle would load it at the start of every command.
  const { CsvError, parse } = await import('csv-parse');
  const parser = parse({
    delimiter,
    // Told, because csv-parse would settle on the first one that it meets, and a file may mix them.
    record_delimiter: ['\r\n', '\n', '\r'],
    // One character a byte, so that invalid UTF-8 can still be told from a replacement character in the file.
    encoding: 'latin1',
    max_record_size: rowBytesMax,
    relax_column_count: true,
    skip_empty_lines: true,
    info: true,
  });
  const source = Readable.from(bytes, { objectMode: false });
  source.on('error', (error) => parser.destroy(error));
  source.pipe(parser);

  let header: CsvHeader | null = null;
  // csv-parse counts a CR LF inside quotes as two lines.
  let overcounted = 0;
  let lastLine = 0;
  try {
    for await (const record of parser) {
      const { record: raw, info } = record as { record: string[]; info: { lines: number } };
      const breaks = countBreaks(raw);
      overcounted += breaks.doubled;
      lastLine = info.lines - overcounted;
      const line = lastLine - breaks.lines;
      const fields = decode(raw);
      if (fields === null) {
        yield { line, code: 'bad_row', message: 'the row is not valid UTF-8' };
        if (header === null) return;
      } else if (header === null) {
        // A column without a name (an index that some program has written) is called by its number.
        const names = fields.map((name, i) => (name === '' ? `column_${i + 1}` : name));
        header = { names, indexByName: new Map(names.map((name, i) => [name, i])) };
        if (header.indexByName.size < names.length) {
          const twice = names.find((name, i) => names.indexOf(name) !== i);
          yield { line, code: 'bad_input', message: `two columns are called ${JSON.stringify(twice)}` };
          return;
        }
      } else if (fields.length !== header.names.length) {
        const message = `the row has ${fields.length} fields, the header ${header.names.length}`;
        yield { line, code: 'bad_row', message };
      } else {
        yield { line, header, fields };
      }
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const isTooLarge = error.code === 'CSV_MAX_RECORD_SIZE';
    const message = `${isTooLarge ? `a row has more than ${rowBytesMax} bytes` : error.message}; the rest was not read`;
    yield { line: lastLine + 1, code: 'bad_input', message };
  } finally {
    source.destroy();
  }
}

function countBreaks(fields: readonly string[]): { lines: number; doubled: number } {
  let lines = 0;
  let doubled = 0;
  for (const field of fields) {
    if (!field.includes('\n') && !field.includes('\r')) continue;
    lines += field.match(/\r\n|\r|\n/g)?.length ?? 0;
    doubled += field.match(/\r\n/g)?.length ?? 0;
  }
  return { lines, doubled };
}

/** Fields that were read one character a byte, as the UTF-8 that they are; null if they are not. */
function decode(fields: readonly string[]): string[] | null {
  const decoded: string[] = [];
  for (const field of fields) {
    // Most fields are ASCII, where both are the same.
    if (!/[\x80-\xff]/.test(field)) {
      decoded.push(field);
      continue;
    }
    const bytes = Buffer.from(field, 'latin1');
    if (!isUtf8(bytes)) return null;
    decoded.push(bytes.toString());
  }
  return decoded;
}
