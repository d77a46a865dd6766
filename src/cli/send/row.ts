// A row: what `ess send` reads from a file before it becomes an event.

/** Largest row, bytes: the largest event that a service can be configured to take. Bounds the memory of reading. */
export const rowBytesMax = 64 * 1024 * 1024;

/** Where a row stands. */
export interface Place {
  readonly file: string;
  /** Line on which the row begins, from 1. */
  readonly line: number;
  /** Number of the row in its file, from 1: many JSON files have only one line. */
  readonly row: number;
}

/** Why a row is not sent. The codes of events that the service rejects are the service's. */
export type RowCode =
  /** The rest of the file cannot be read, or not be told apart into rows. */
  | 'bad_input'
  /** The row is not a JSON object, or not a CSV record that fits the header. */
  | 'bad_row'
  /** A field named by an option is missing, or cannot be what the option says. */
  | 'bad_field'
  /** The row's time cannot be read. */
  | 'bad_time'
  /** The row is larger than any service takes. */
  | 'too_large';

/** The columns of a CSV file, from its header. */
export interface CsvHeader {
  readonly names: readonly string[];
  readonly indexByName: ReadonlyMap<string, number>;
}

export type Row =
  | { readonly type: 'json'; readonly place: Place; readonly text: string }
  | {
      readonly type: 'csv';
      readonly place: Place;
      readonly header: CsvHeader;
      readonly fields: readonly string[];
    }
  | { readonly type: 'bad'; readonly place: Place; readonly code: RowCode; readonly message: string };
