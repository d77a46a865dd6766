// From a Kafka record that ESS wrote back to the packed record (event/record.ts) that it was made of. Sink workers run
// it for every record; what nobody but ESS can have written is recognised here.

import { EssError } from '../../../errors.ts';
import { RecordCursor, recordFlags, recordHeaderBytes } from '../../../event/record.ts';
import type { BatchRecords } from './batch_records.ts';
import { copyBytes, isSameBytes } from './copy.ts';
import { essHeader } from './ess_header.ts';

const cursor = new RecordCursor();

/** Room that `copyPackedRecord` needs for the current record, bytes; 0 if it is certainly foreign. */
export function packedBytesMax(record: BatchRecords): number {
  const headBytes = record.essEnd - record.essStart - essHeader.versionBytes;
  if (record.essStart < 0 || record.keyStart < 0 || record.valueStart < 0) return 0;
  if (headBytes < recordHeaderBytes || record.buffer[record.essStart] !== essHeader.version) return 0;
  return headBytes + record.keyEnd - record.keyStart + record.valueEnd - record.valueStart;
}

/**
 * Writes the packed record that the current Kafka record carries at `position` of `target`, which must have room for
 * `packedBytesMax`. Gives the position after it, or -1 if the record is foreign: without an `ess` header, or its
 * lengths do not add up. What lies at `position` then means nothing.
 */
export function copyPackedRecord(record: BatchRecords, target: Buffer, position: number): number {
  const bytesMax = packedBytesMax(record);
  if (bytesMax === 0) return -1;
  if (bytesMax > target.length - position) throw new EssError('internal', 'no room for a packed record');
  const headStart = record.essStart + essHeader.versionBytes;
  const headEnd = copyBytes(record.buffer, headStart, record.essEnd, target, position);
  // Where the flag lies is known to the packed record only, and it cannot be read before it is whole. So begin with
  // what is likely: a key that is the id. Another key may begin like the id, too.
  const idStart = headStart + recordHeaderBytes;
  if (isSameBytes(record.buffer, record.keyStart, record.keyEnd, record.buffer, idStart)) {
    const end = finish(record, target, position, headEnd, true);
    if (end !== -1) return end;
  }
  return finish(record, target, position, headEnd, false);
}

/** Writes key and body after the head and checks that they fit it. */
function finish(
  record: BatchRecords,
  target: Buffer,
  position: number,
  headEnd: number,
  isKeyId: boolean,
): number {
  const { buffer, keyStart, keyEnd } = record;
  const bodyStart = isKeyId ? headEnd : copyBytes(buffer, keyStart, keyEnd, target, headEnd);
  const end = copyBytes(buffer, record.valueStart, record.valueEnd, target, bodyStart);
  cursor.open(target);
  cursor.end = position;
  try {
    cursor.next();
  } catch {
    // Lengths beyond the buffer: somebody else's header of the same name.
    return -1;
  }
  const isWhole = cursor.keyStart === headEnd && cursor.bodyStart === bodyStart && cursor.end === end;
  if (!isWhole || isKeyId !== ((cursor.flags & recordFlags.isKeyId) !== 0)) return -1;
  return isKeyId && cursor.typeStart - cursor.idStart !== keyEnd - keyStart ? -1 : end;
}
