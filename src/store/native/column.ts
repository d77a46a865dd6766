// What every column of a Native block can do, whatever its type. Runs on sink threads. Appending is left to each
// type, so that the hot path calls it directly and without conversion.

/** Rows for which a new column has room; it doubles from there and keeps its memory when it is reset. */
export const initialRows = 1024;

export interface Column {
  /** Rows appended since the last reset. */
  readonly rows: number;
  /** Bytes of the data that `writeTo` would give now, within a few dozen. */
  readonly bytes: number;
  /** Takes back the last rows, so that `rows` remain; a larger number than there are changes nothing. */
  truncate(rows: number): void;
  /** Forgets all rows and keeps the memory. */
  reset(): void;
  /** Adds the data as views into the column's memory: valid until its next change. */
  writeTo(pieces: Uint8Array[]): void;
}
