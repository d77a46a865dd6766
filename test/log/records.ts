// Packed records for tests of the log, and their ids back.

import { RecordCursor, RecordWriter } from '../../src/event/record.ts';

/** One record per id, each with a body of this many bytes. The buffer is the caller's own. */
export function packed(ids: readonly string[], bodyBytes: number): Buffer {
  const writer = new RecordWriter();
  const body = Buffer.alloc(bodyBytes, 'abcdefghij');
  for (const id of ids) writer.append(0, id, 'event', '', '', null, 1000, 1000, body, 0, bodyBytes);
  return Buffer.from(writer.bytes);
}

export function idsOf(bytes: Buffer): string[] {
  const cursor = new RecordCursor();
  cursor.open(bytes);
  const ids: string[] = [];
  while (cursor.next()) ids.push(bytes.toString('utf8', cursor.idStart, cursor.typeStart));
  return ids;
}
