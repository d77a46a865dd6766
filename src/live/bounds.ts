// What the live stream may take: named here, so that the memory budget counts it and the route keeps to it. Any thread
// may import this.

/** Pages that may watch one process at the same time; the next one is refused. */
export const viewersMax = 32;

/** Unsent bytes at which a viewer that does not keep up is let go. A snapshot of 1,024 partitions has a third of it. */
export const viewerBacklogBytesMax = 1024 * 1024;

/** Time between two snapshots, ms. */
export const snapshotEveryMs = 1000;
