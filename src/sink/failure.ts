// How long a sink pauses when ClickHouse does not take a block. What each error means is in store/failure.ts.

export { type FailurePolicy, failurePolicy } from '../store/failure.ts';

/** First pause before a repeated insert, ms; doubled up to the bound. */
export const retryPauseMsMin = 100;
export const retryPauseMsMax = 5000;
/** Pause after a failure that needs a person, ms. */
export const stopPauseMs = 10_000;
