// A block of rows in ClickHouse's Native format: columns by name, and the bytes to send. Runs on sink threads. One
// block object is used again and again; its memory grows to that of the largest block so far.

import { EssError } from '../../errors.ts';
import type { Column } from './column.ts';
import { blockHeader, columnHeader } from './layout.ts';
import { LowCardinalityColumn } from './low_cardinality_column.ts';
import { NumberColumn } from './number_column.ts';
import { StringColumn } from './string_column.ts';
import { DateTime64Column, Int64Column, UInt64Column } from './wide_column.ts';

/** Every column type that can be encoded, as DDL writes it, with the maker of its column. */
const makers = {
  UInt8: () => new NumberColumn((length) => new Uint8Array(length)),
  UInt16: () => new NumberColumn((length) => new Uint16Array(length)),
  Int32: () => new NumberColumn((length) => new Int32Array(length)),
  UInt32: () => new NumberColumn((length) => new Uint32Array(length)),
  Float64: () => new NumberColumn((length) => new Float64Array(length)),
  Int64: () => new Int64Column(),
  UInt64: () => new UInt64Column(),
  "DateTime64(3, 'UTC')": () => new DateTime64Column(),
  String: () => new StringColumn(),
  'LowCardinality(String)': () => new LowCardinalityColumn(),
} as const satisfies Record<string, () => Column>;

export type ColumnType = keyof typeof makers;

/** A column's name and type, as in schema.ts. */
export interface ColumnSpec {
  readonly name: string;
  readonly type: ColumnType;
}

/** The column class that a name stands for in a list of columns. */
export type ColumnNamed<Specs extends readonly ColumnSpec[], Name extends Specs[number]['name']> = ReturnType<
  (typeof makers)[Extract<Specs[number], { readonly name: Name }>['type']]
>;

interface NamedColumn {
  readonly name: string;
  readonly header: Buffer;
  readonly column: Column;
}

export class NativeBlock<const Specs extends readonly ColumnSpec[]> {
  readonly #columns: readonly NamedColumn[];

  /** Columns are written in this order. */
  constructor(columns: Specs) {
    this.#columns = columns.map(({ name, type }) => ({
      name,
      header: columnHeader(name, type),
      column: makers[type](),
    }));
  }

  /** The column of this name, to append to. */
  column<Name extends Specs[number]['name']>(name: Name): ColumnNamed<Specs, Name> {
    // The constructor made the column by the type that stands beside the name.
    for (const entry of this.#columns)
      if (entry.name === name) return entry.column as ColumnNamed<Specs, Name>;
    throw new EssError('internal', `the block has no column ${name}`);
  }

  /** Rows of the first column; all are equal between whole rows. */
  get rows(): number {
    return this.#columns[0]?.column.rows ?? 0;
  }

  /** Bytes that `pieces` would give now, within a few hundred. */
  get approximateBytes(): number {
    let bytes = 0;
    for (const { header, column } of this.#columns) bytes += header.length + column.bytes;
    return bytes;
  }

  /** Takes back the last rows of every column, also of columns that have some more: a row begun is undone. */
  truncate(rows: number): void {
    for (const { column } of this.#columns) column.truncate(rows);
  }

  /** Forgets all rows and keeps the memory. */
  reset(): void {
    for (const { column } of this.#columns) column.reset();
  }

  /**
   * The block's bytes, in pieces that follow each other. They are views into the columns' memory, valid until the next
   * append, truncate or reset. Columns of unequal length throw `internal`.
   */
  pieces(): Uint8Array[] {
    const rows = this.rows;
    const pieces: Uint8Array[] = [blockHeader(this.#columns.length, rows)];
    for (const { name, header, column } of this.#columns) {
      if (column.rows !== rows)
        throw new EssError('internal', `column ${name} has ${column.rows} rows, the block has ${rows}`);
      pieces.push(header);
      if (rows > 0) column.writeTo(pieces);
    }
    return pieces;
  }
}
