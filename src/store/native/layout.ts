// The bytes of one block in ClickHouse's Native format at protocol revision 0, which is what `FORMAT Native` means
// over HTTP and in a file. Runs on sink threads. This file alone knows the layout; the columns beside it only fill in
// their data.
//
//   block:   +---------------+-------------+  then for every column, without a gap:
//            | columns       | rows        |
//            | varuint       | varuint     |
//            +---------------+-------------+
//   column:  +-----------+---------------------------+-----------+---------------------------+-----------------
//            | name size | name                      | type size | type as DDL writes it     | data of all rows
//            | varuint   | UTF-8                     | varuint   | "LowCardinality(String)"  | (none if rows = 0)
//            +-----------+---------------------------+-----------+---------------------------+-----------------
//   data, by type (all numbers little-endian, no padding):
//     UInt8 .. UInt64, Int32, Int64, Float64:  rows x the number
//     DateTime64(3, 'UTC'):                    rows x Int64, milliseconds since 1970, negative before
//     String:                                  rows x (varuint size, bytes)
//     LowCardinality(String):
//       +---------+---------------------------+------+-------------------------+------+---------------------------
//       | version | index width | 0x200|0x400 | keys | keys x (varuint size,   | rows | rows x position of the key
//       | u64 = 1 | u64                       | u64  |         bytes)          | u64  | u8 | u16 | u32
//       +---------+---------------------------+------+-------------------------+------+---------------------------
//       index width: 0, 1, 2 for u8, u16, u32. 0x200: the keys stand here (HasAdditionalKeys). 0x400: the reader
//       starts a new dictionary (NeedUpdateDictionary), since every block carries its own.
//       Source: ClickHouse, src/DataTypes/Serializations/SerializationLowCardinality.cpp.
//   varuint: seven bits a byte, least significant first, the top bit says that another byte follows.
//
// Typed arrays are copied into the block as they lie in memory: this needs a little-endian machine, as every platform
// of Node.js with a ClickHouse or chDB build is.

/** Most bytes of a varuint of 32 bits. */
export const varuintBytesMax = 5;

/** Number of bytes that a varuint takes; `value` is an integer of 0 to 2^32 - 1. */
export function varuintBytes(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  if (value < 0x1000_0000) return 4;
  return 5;
}

/** Writes a varuint and returns the position behind it; `value` is an integer of 0 to 2^32 - 1. */
export function writeVaruint(target: Uint8Array, position: number, value: number): number {
  let rest = value;
  let at = position;
  while (rest >= 0x80) {
    target[at] = (rest & 0x7f) | 0x80;
    at += 1;
    rest >>>= 7;
  }
  target[at] = rest;
  return at + 1;
}

/** The start of a block. */
export function blockHeader(columns: number, rows: number): Buffer {
  const header = Buffer.allocUnsafe(varuintBytes(columns) + varuintBytes(rows));
  writeVaruint(header, writeVaruint(header, 0, columns), rows);
  return header;
}

/** The start of a column. */
export function columnHeader(name: string, type: string): Buffer {
  const nameBytes = Buffer.byteLength(name);
  const typeBytes = Buffer.byteLength(type);
  const header = Buffer.allocUnsafe(
    varuintBytes(nameBytes) + nameBytes + varuintBytes(typeBytes) + typeBytes,
  );
  const nameAt = writeVaruint(header, 0, nameBytes);
  const typeSizeAt = nameAt + header.write(name, nameAt);
  header.write(type, writeVaruint(header, typeSizeAt, typeBytes));
  return header;
}

const lowCardinality = {
  version: 1,
  hasAdditionalKeys: 0x200,
  needUpdateDictionary: 0x400,
} as const;

/** Width of an index into a dictionary: the code in the layout, and the bytes of one index. */
export function indexWidth(keys: number): { readonly code: number; readonly bytes: 1 | 2 | 4 } {
  if (keys <= 0x100) return { code: 0, bytes: 1 };
  if (keys <= 0x1_0000) return { code: 1, bytes: 2 };
  return { code: 2, bytes: 4 };
}

/** What stands before the keys of a LowCardinality column. */
export function dictionaryHeader(keys: number): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(lowCardinality.version, 0);
  header.writeUInt32LE(
    indexWidth(keys).code | lowCardinality.hasAdditionalKeys | lowCardinality.needUpdateDictionary,
    8,
  );
  header.writeUInt32LE(keys, 16);
  return header;
}

/** What stands before the indexes of a LowCardinality column. */
export function indexHeader(rows: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(rows, 0);
  return header;
}
