// The state of something that fails: a broker, or a partition. Plain state of a producer's thread.

/** How long something has been in trouble, and why. */
export class Trouble {
  /** By the monotonic clock; 0 while all is well. */
  sinceMs = 0;
  reason = '';
  /** When it may be tried out again. */
  retryAtMs = 0;

  note(sinceMs: number, reason: string): void {
    if (this.sinceMs === 0) this.sinceMs = sinceMs;
    this.reason = reason;
  }

  clear(): void {
    this.sinceMs = 0;
    this.retryAtMs = 0;
  }

  isOlderThan(ms: number, nowMs: number): boolean {
    return this.sinceMs !== 0 && nowMs - this.sinceMs > ms;
  }
}
