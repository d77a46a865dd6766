// Reads the record of a dead letter, whose layout is told in dead_letters.ts. Runs wherever letters are read.

import { EssError } from '../../errors.ts';
import { RecordCursor, recordHeaderBytes } from '../../event/record.ts';
import type { DeadLetter, LetterPlace } from '../log.ts';
import type { BatchRecords } from './wire/batch_records.ts';
import { essHeader } from './wire/ess_header.ts';
import { VarintReader } from './wire/varint.ts';

/** The letter in the current record; null if ESS did not write it. */
export function letterOf(records: BatchRecords, { partition, offset }: LetterPlace): DeadLetter | null {
  const { buffer, valueStart, valueEnd, essStart, essEnd } = records;
  if (valueStart < 0 || essStart < 0 || essEnd - essStart < essHeader.versionBytes + recordHeaderBytes)
    return null;
  if (buffer[essStart] !== essHeader.version) return null;
  const headers = headersAfter(buffer, valueEnd);
  const record = Buffer.concat([
    buffer.subarray(essStart + essHeader.versionBytes, essEnd),
    headers.get('key') ?? Buffer.alloc(0),
    buffer.subarray(valueStart, valueEnd),
  ]);
  if (!isOneRecord(record)) return null;
  const text = (name: string) => headers.get(name)?.toString() ?? '';
  return {
    partition,
    offset,
    timeMs: Number(text('time')) || records.timestampMs,
    code: text('code'),
    reason: text('reason'),
    record,
  };
}

/** The headers of a record, which begin where its value ends. The record was checked as a whole before. */
function headersAfter(buffer: Buffer, position: number): Map<string, Buffer> {
  const headers = new Map<string, Buffer>();
  const varints = new VarintReader();
  varints.open(buffer, position, buffer.length);
  const part = (): Buffer => {
    const bytes = Math.max(varints.int(), 0);
    const start = varints.position;
    varints.position += bytes;
    return buffer.subarray(start, start + bytes);
  };
  for (let left = varints.int(); left > 0; left -= 1) {
    const name = part().toString();
    headers.set(name, part());
  }
  return headers;
}

function isOneRecord(bytes: Buffer): boolean {
  const cursor = new RecordCursor();
  cursor.open(bytes);
  try {
    return cursor.next() && cursor.end === bytes.length;
  } catch (error) {
    if (error instanceof EssError) return false;
    throw error;
  }
}
