// The layout of Kafka's record batch, version 2 (DefaultRecordBatch.java and DefaultRecord.java of Apache Kafka): what
// a topic holds, and what Produce and Fetch carry. Batches lie one after the other with no gap. All numbers are
// big-endian. Only the files of this folder read or write them.
//
//     0             8        12            16       17     21
//    +-------------+--------+-------------+--------+------+--------------------------------------------------+
//    | base offset | length | leader epoch| magic  | crc  | ...                                              |
//    | i64         | i32    | i32         | i8 = 2 | u32  |                                                  |
//    +-------------+--------+-------------+--------+------+--------------------------------------------------+
//     21           23                  27          35         43            51             53           57      61
//    +------------+-------------------+-----------+----------+-------------+--------------+------------+-------+
//    | attributes | last offset delta | base time | max time | producer id | producer     | base       | count | records
//    | i16        | i32               | i64 ms    | i64 ms   | i64         | epoch i16    | sequence   | i32   |
//    |            |                   |           |          |             |              | i32        |       |
//    +------------+-------------------+-----------+----------+-------------+--------------+------------+-------+
//    length: bytes after itself. crc: CRC-32C of all from the attributes on; the broker sets offset and leader epoch.
//    last offset delta: the offset of the last record that the batch was written with, less the base offset. It stays
//    when compaction takes records away, so a batch may hold fewer records, even none.
//    records: compressed as one piece if the attributes say so.
//
//    One record; v32 and v64 are zigzag varints. A length of -1 is null.
//    +--------+------------+------------+--------------+------------+-----+--------------+-------+---------------+---
//    | length | attributes | time delta | offset delta | key length | key | value length | value | header count  | ...
//    | v32    | i8 = 0     | v64 ms     | v32          | v32        |     | v32          |       | v32           |
//    +--------+------------+------------+--------------+------------+-----+--------------+-------+---------------+---
//    and for each header: name length v32, name, value length v32, value.
//
//    A message set (magic 0 or 1, written before Kafka 0.11) has its offset, length and magic at the same places.

export const batchAt = {
  baseOffset: 0,
  length: 8,
  leaderEpoch: 12,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  baseTimestampMs: 27,
  maxTimestampMs: 35,
  producerId: 43,
  producerEpoch: 51,
  baseSequence: 53,
  count: 57,
  records: 61,
} as const;

/** What `length` does not count: itself and the base offset. */
export const lengthEnd = 12;
export const magicVersion = 2;
/** The shortest entry of any version: a message of a message set with neither key nor value. */
export const entryBytesMin = 26;

/** Bits of the attributes. */
export const attributeBits = {
  compression: 0x07,
  /** Every record has the max timestamp, at which the broker appended the batch. */
  isLogAppendTime: 0x08,
  isTransactional: 0x10,
  isControl: 0x20,
} as const;

/** Values of the compression bits, by name. */
export const compressionIds = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const;

/** The record of a control batch has a key of two i16: version, then one of these types. */
export const controlKey = { typeAt: 2, bytes: 4, abort: 0, commit: 1 } as const;
