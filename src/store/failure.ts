// What to do when ClickHouse does not take a block: a closed table by error number. Names are those of ClickHouse's
// src/Common/ErrorCodes.cpp. Sinks decide by it what becomes of a range, shard_store.ts whether a sibling is tried.

import { StoreError } from './store.ts';

export type FailurePolicy =
  /** Try the same range with the same token again, later. */
  | 'retry'
  /** Some row of the block is refused for good: narrow the range down to it. */
  | 'poison'
  /** Nothing will go in until a person acts (table missing, access denied): try seldom, say so loudly. */
  | 'stop';

const policies: Readonly<Record<number, FailurePolicy>> = {
  // Rows that do not fit the table.
  6: 'poison', // CANNOT_PARSE_TEXT
  27: 'poison', // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  38: 'poison', // CANNOT_PARSE_DATE
  41: 'poison', // CANNOT_PARSE_DATETIME
  53: 'poison', // TYPE_MISMATCH
  69: 'poison', // ARGUMENT_OUT_OF_BOUND
  70: 'poison', // CANNOT_CONVERT_TYPE
  72: 'poison', // CANNOT_PARSE_NUMBER
  117: 'poison', // INCORRECT_DATA
  131: 'poison', // TOO_LARGE_STRING_SIZE
  190: 'poison', // SIZES_OF_ARRAYS_DONT_MATCH
  321: 'poison', // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
  349: 'poison', // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  395: 'poison', // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
  407: 'poison', // DECIMAL_OVERFLOW
  469: 'poison', // VIOLATED_CONSTRAINT
  // A person must act.
  16: 'stop', // NO_SUCH_COLUMN_IN_TABLE
  47: 'stop', // UNKNOWN_IDENTIFIER
  60: 'stop', // UNKNOWN_TABLE
  62: 'stop', // SYNTAX_ERROR
  81: 'stop', // UNKNOWN_DATABASE
  115: 'stop', // UNKNOWN_SETTING
  164: 'stop', // READONLY
  192: 'stop', // UNKNOWN_USER
  193: 'stop', // WRONG_PASSWORD
  497: 'stop', // ACCESS_DENIED
  516: 'stop', // AUTHENTICATION_FAILED
};

/** The command that mends what a refusal is about, where there is one. */
const mends: Readonly<Record<number, string>> = {
  16: 'ess init --apply',
  60: 'ess init',
  81: 'ess init',
};

/** Everything that is not in the table is tried again: overload, memory, network, Keeper, a full disk. */
export function failurePolicy(error: unknown): FailurePolicy {
  if (!(error instanceof StoreError)) return 'retry';
  return error.needsPerson ? 'stop' : (policies[error.code] ?? 'retry');
}

/** The command by which a person mends what made the statement fail; null if none does. */
export function mendingCommand(error: StoreError): string | null {
  return mends[error.code] ?? null;
}
