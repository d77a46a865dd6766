// The lmdb environment of the embedded log: opening, durable transactions and fresh reads, and what lmdb's errors
// mean. One instance a thread; lmdb shares the map between the threads of a process and the lock between processes.
// Nothing outside this file relies on how lmdb-js behaves.
//
// What was found in lmdb 3.5.6's sources and by watching its system calls, since an acknowledgement rests on it:
//
// - With `overlappingSync: false`, `transactionSync` writes the changed pages, calls fdatasync, and then writes the
//   meta page through a descriptor opened with O_DSYNC, all before it returns. So a commit is visible and durable at
//   the same moment. (By default lmdb-js commits first and flushes later; its promise means "visible".)
// - lmdb writes only to free pages and switches by a meta page of alternating position. After a crash the last
//   complete meta page counts; there is no recovery, and nothing of an unfinished transaction is to be seen.
//   `safeRestore` chooses between a flushed and an unflushed meta page of overlappingSync; without that there is
//   only the flushed kind, and nothing to choose.
// - The write lock is a robust mutex in lock.mdb: a killed process gives it back, its transaction never happened.
//   A killed process also leaves its slot in the table of readers, which keeps old pages from being reused until
//   somebody calls `readerCheck`; opening does, and `expireReaders` does while running.
// - A thread may not be terminated while it uses lmdb, see gate.ts.
// - An exception in the callback aborts the transaction and is thrown on.
// - The result of lmdb's begin and put is dropped by lmdb-js: a failed begin gives a transaction with id 0, and a
//   failed put marks the transaction, whose commit then fails. `transact` checks the first and relies on the second.
// - Reads renew one snapshot for a turn of the event loop: `resetReadTxn` drops it so that the next read sees the
//   newest commit. Values below 16 MiB are copied into one buffer that the next read overwrites; larger ones are views
//   of the map that the end of the snapshot makes invalid. Either way: use or copy a value before the next call.
// - Without a write map, pages are written with pwrite, so that a full disk is an error of the commit, not a SIGBUS.
//   A short write is reported as EIO, not ENOSPC. But the error's text is printed into 100 bytes of heap that it does not
//   always fit (mdb_page_flush, `last_error`, with numbers out of memory that nobody has set): each failed write may break
//   the heap, and with it the process. So `transact` looks at the disk first, and lmdb is not let near its end.
// - The map is virtual address space. lmdb-js maps anew when it is too small, or when another process grew the file,
//   and keeps the old maps until the last thread closes.
// - A named database may not be closed by one thread: its handle belongs to all threads of the process.
// - An open that fails inside lmdb crashes the process (it uses what it has just freed). `assertOpenable` finds the
//   likely reasons before.
// - lock.mdb is written through a map, where a hole on a full disk would be a SIGBUS: it is made with its space. It
//   may never be opened and closed here: closing drops this process's locks on it (POSIX), by which other processes
//   know that it lives.

import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { EssError } from '../../errors.ts';
import type { LogPosition, PartitionState } from '../log.ts';
import { GateKeeper, type LogGate } from './gate.ts';
import {
  type BatchHead,
  batchKey,
  databaseNames,
  type LogIdentity,
  metaKeys,
  partitionKey,
  positionKey,
  readBatchKey,
  readIdentity,
  readPartition,
  readPosition,
  readTotals,
  type StoredPartition,
  type StoredTotals,
  writeIdentity,
  writePartition,
  writeTotals,
} from './layout.ts';

/** How to open an embedded log. All handles of one log should be given the same values. */
export interface EmbeddedLogOptions {
  /** Directory of the log; created if missing. */
  readonly path: string;
  /** Partitions of a new log, 1-1024. An existing log keeps its number. */
  readonly partitions: number;
  /** Most bytes held, unconsumed and retained ones; an append beyond it is refused. */
  readonly bytesMax: number;
  /** Consumed batches older than this are trimmed; 0 or more. */
  readonly retentionMs: number;
  /** Consumed batches beyond this many bytes are trimmed, all partitions together; 0 or more. */
  readonly retentionBytes: number;
  /** Closed before a thread that has the log open is terminated, or the process exits; see gate.ts. */
  readonly gate?: LogGate;
}

export type Binary = Database<Uint8Array, Uint8Array>;

/**
 * Threads and processes that may read at the same moment: 64 producers, 64 sinks and some readers, of two processes.
 * lmdb's default of 126 is less than that; a slot takes 64 bytes of lock.mdb.
 */
const readersMax = 512;
const lockTableBytes = 4096 + 64 * readersMax;

/** Space without which no new log is begun: lmdb's first pages and the lock table, with room to spare. */
const newLogBytes = 1024 * 1024;

/**
 * What has to stay free on the disk for a transaction to be begun, so that it never meets the end of the disk. Positions
 * and trimming take a few pages, mostly ones that were free in the file: they go on when appends do not any more, since
 * trimming is what makes room. What other programs write between the look and the commit is why it is not less.
 */
const spareBytes = 1024 * 1024;

/** Where lmdb says what a file is: magic number and version of the first meta page (MDB_meta). */
const metaAt = { magic: 24, version: 28, end: 32 } as const;
const metaMagic = 0xbeefc0de;
const metaVersion = 2;

/**
 * The first size of the map: what the log may hold, half as much again for half-filled pages and free space, and
 * something for positions and dead letters. It costs address space only, and grows by itself; but each growth
 * inside a process keeps the previous map, so it had better not.
 */
function mapBytes(bytesMax: number): number {
  return bytesMax + Math.ceil(bytesMax / 2) + 16 * 1024 * 1024;
}

const binary = { encoding: 'binary', keyEncoding: 'binary' } as const;

export class LogEnvironment {
  readonly identity: LogIdentity;
  readonly meta: Binary;
  readonly batches: Binary;
  readonly positions: Binary;
  readonly letters: Binary;
  readonly letterStates: Binary;
  readonly #root: RootDatabase;
  readonly #gate: GateKeeper;
  readonly #path: string;
  /** Of data.mdb as it was opened. */
  readonly #inode: number;
  #isOpen = true;

  /** Takes over `root`; the description of the log is checked, or made, first. */
  constructor(root: RootDatabase, gate: GateKeeper, options: EmbeddedLogOptions) {
    this.#root = root;
    this.#gate = gate;
    this.#path = resolve(options.path);
    this.#inode = statSync(filesOf(this.#path).data).ino;
    // Before the other databases, because opening a database creates it.
    this.meta = this.#open(databaseNames.meta);
    this.identity = this.transact(() => {
      const stored = this.meta.getBinaryFast(metaKeys.log);
      if (stored !== undefined) return readIdentity(stored);
      const made = { epoch: randomBytes(16).toString('hex'), partitions: options.partitions };
      this.meta.putSync(metaKeys.log, writeIdentity(made));
      return made;
    });
    this.batches = this.#open(databaseNames.batches);
    this.positions = this.#open(databaseNames.positions);
    this.letters = this.#open(databaseNames.letters);
    this.letterStates = this.#open(databaseNames.states);
  }

  /**
   * Runs `work` in a write transaction and returns its result when everything in it is durable. Nothing of it happens
   * if this throws: an EssError from `work` as it is, `log_unavailable` if the disk is full, the file is
   * gone, or lmdb could not do it, or `outcome_unknown` if the last write of the commit, the meta page, failed on the device. `growthBytes`: by
   * which the file may grow.
   */
  transact<T>(work: () => T, growthBytes = 0): T {
    this.#enter();
    let isCommitting = false;
    try {
      this.#assertRoom(spareBytes + growthBytes);
      return this.#root.transactionSync(() => {
        if (this.#root.getWriteTxnId() === 0) {
          throw new EssError('log_unavailable', 'the log cannot begin a transaction; restart this process');
        }
        const result = work();
        isCommitting = true;
        return result;
      });
    } catch (error) {
      if (error instanceof EssError) throw error;
      if (isCommitting && !this.#canWrite()) {
        throw new EssError('outcome_unknown', 'the log failed in the last step of a commit', {
          cause: error,
        });
      }
      throw new EssError('log_unavailable', `the log could not be written: ${messageOf(error)}`, {
        cause: error,
      });
    } finally {
      this.#gate.leave();
    }
  }

  /**
   * Runs `work`, whose reads see every commit so far, of any thread and process. The snapshot is given up afterwards,
   * so that it keeps no page from being reused. `work` may use `snapshot` and `transact` itself; later reads then see
   * a newer snapshot.
   */
  snapshot<T>(work: () => T): T {
    this.#enter();
    try {
      this.#root.resetReadTxn();
      return work();
    } finally {
      this.#root.resetReadTxn();
      this.#gate.leave();
    }
  }

  /** Frees the places of readers whose process is gone. Cheap: one system call for each other process. */
  expireReaders(): void {
    this.#enter();
    try {
      this.#root.readerCheck();
    } finally {
      this.#gate.leave();
    }
  }

  /** Ids of other processes on this machine that have read from this log and still have it open. */
  otherProcesses(): number[] {
    this.expireReaders();
    // A line for each reader, below a line of titles: process id, thread, transaction.
    const pids = [...this.#root.readerList().matchAll(/^\s*(\d+)\s/gm)].map(([, pid]) => Number(pid));
    return [...new Set(pids)].filter((pid) => pid !== process.pid);
  }

  totals(): StoredTotals {
    return readTotals(this.meta.getBinaryFast(metaKeys.totals));
  }

  putTotals(totals: StoredTotals): void {
    this.meta.putSync(metaKeys.totals, writeTotals(totals));
  }

  partition(partition: number): StoredPartition {
    return readPartition(this.meta.getBinaryFast(partitionKey(partition)));
  }

  putPartition(partition: number, state: StoredPartition): void {
    this.meta.putSync(partitionKey(partition), writePartition(state));
  }

  position(partition: number): LogPosition {
    return readPosition(this.positions.getBinaryFast(positionKey(partition)));
  }

  /** The batches in a range of keys, in the order asked for; reads no value. */
  heads(range: { start: Buffer; end: Buffer; limit: number; reverse?: boolean }): BatchHead[] {
    const heads: BatchHead[] = [];
    for (const key of this.batches.getKeys(range)) heads.push(readBatchKey(key));
    return heads;
  }

  /** The records of a batch, valid until the next call of anything here; undefined if it is not there. */
  records(head: BatchHead): Buffer | undefined {
    const value = this.batches.getBinaryFast(batchKey(head));
    // lmdb-js reuses one large buffer and only overwrites its `length` property, which most methods do not look at.
    return value === undefined ? undefined : Buffer.from(value.buffer, value.byteOffset, value.length);
  }

  /** Throws `internal` if the log has no such partition. */
  assertPartition(partition: number): void {
    if (!Number.isInteger(partition) || partition < 0 || partition >= this.identity.partitions) {
      throw new EssError('internal', `the log has no partition ${partition}`);
    }
  }

  /** The state of every partition, by index, all from one snapshot. */
  states(): PartitionState[] {
    return this.snapshot(() => {
      const states: PartitionState[] = [];
      for (let partition = 0; partition < this.identity.partitions; partition += 1) {
        const { start, end, bytes } = this.partition(partition);
        states.push({ start, end, bytes, committed: this.position(partition).offset });
      }
      return states;
    });
  }

  /** Closes this thread's handle. Closing twice is allowed. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    // Behind a closed gate the end of the thread closes it.
    if (!this.#gate.tryEnter()) return;
    try {
      await this.#root.close();
    } finally {
      this.#gate.leave();
    }
  }

  #enter(): void {
    if (!this.#isOpen || !this.#gate.tryEnter()) throw new EssError('stopping', 'the log is closed');
  }

  /**
   * Throws `log_unavailable` if the disk has fewer bytes left, or if the file is gone: lmdb would go on writing into what
   * nobody finds again. The texts stay the same while it is so: they are shown.
   */
  #assertRoom(bytes: number): void {
    const { data } = filesOf(this.#path);
    if (statSync(data, { throwIfNoEntry: false })?.ino !== this.#inode)
      throw new EssError('log_unavailable', `somebody has removed or replaced ${data}: restart ess`);
    const { bavail, bsize } = statfsSync(this.#path);
    if (bavail * bsize < bytes)
      throw new EssError('log_unavailable', `the disk is full that holds ${this.#path}: make room on it`);
  }

  #open(name: string): Binary {
    return this.#root.openDB<Uint8Array, Uint8Array>({ name, ...binary });
  }

  /** False after a failed write of the meta page: lmdb then refuses every transaction of this process. */
  #canWrite(): boolean {
    try {
      return this.#root.transactionSync(() => this.#root.getWriteTxnId() !== 0);
    } catch {
      return false;
    }
  }
}

/**
 * Opens or creates the log. Rejects with `format_unknown` if a newer ESS, or something else, wrote what is there, and
 * with `log_unavailable` if it cannot be opened.
 */
export async function openEnvironment(options: EmbeddedLogOptions): Promise<LogEnvironment> {
  const gate = new GateKeeper(options.gate);
  if (!gate.tryEnter()) throw new EssError('stopping', 'the log is closed');
  let root: RootDatabase | undefined;
  try {
    const path = resolve(options.path);
    const firstCreated = mkdirSync(path, { recursive: true });
    assertOpenable(path);
    makeLockTable(path);
    root = open({
      path,
      noSubdir: false,
      overlappingSync: false,
      maxDbs: 8,
      maxReaders: readersMax,
      mapSize: mapBytes(options.bytesMax),
    });
    const environment = new LogEnvironment(root, gate, options);
    // lmdb syncs the file, but not the directory entries that lead to it.
    syncDirectories(path, firstCreated === undefined ? path : dirname(firstCreated));
    return environment;
  } catch (error) {
    await root?.close();
    if (error instanceof EssError) throw error;
    throw new EssError(
      'log_unavailable',
      `the log in ${options.path} cannot be opened: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  } finally {
    gate.leave();
  }
}

/** Throws what would crash lmdb's open; see above. */
function assertOpenable(path: string): void {
  const { data, lock } = filesOf(path);
  accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
  if (existsSync(lock)) accessSync(lock, constants.R_OK | constants.W_OK);
  if (!existsSync(data)) {
    const { bavail, bsize } = statfsSync(path);
    if (bavail * bsize < newLogBytes) throw new EssError('log_unavailable', `no space for a log in ${path}`);
    return;
  }
  const head = Buffer.alloc(metaAt.end);
  const descriptor = openSync(data, 'r+');
  try {
    // Empty: its creator was killed right then, or is at work; lmdb begins it anew.
    if (readSync(descriptor, head, 0, head.length, 0) === 0) return;
  } finally {
    closeSync(descriptor);
  }
  // lmdb's numbers are in the machine's byte order; every platform that it is built for is little-endian.
  if (head.readUInt32LE(metaAt.magic) !== metaMagic || head.readUInt32LE(metaAt.version) !== metaVersion) {
    throw new EssError('format_unknown', `${data} is not an lmdb file of version ${metaVersion}`);
  }
}

/** Makes lock.mdb if it is missing: complete or not at all, because another process may be opening the log too. */
function makeLockTable(path: string): void {
  const { lock } = filesOf(path);
  if (existsSync(lock)) return;
  const unfinished = `${lock}.${randomBytes(8).toString('hex')}`;
  try {
    writeFileSync(unfinished, Buffer.alloc(lockTableBytes));
    linkSync(unfinished, lock);
  } catch (error) {
    if (!existsSync(lock)) throw error;
  } finally {
    rmSync(unfinished, { force: true });
  }
}

function filesOf(path: string): { readonly data: string; readonly lock: string } {
  return { data: join(path, 'data.mdb'), lock: join(path, 'lock.mdb') };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Makes the entries of `path` and of its parents up to `last` durable. Windows cannot, and does not need to. */
function syncDirectories(path: string, last: string): void {
  if (process.platform === 'win32') return;
  for (let directory = path; ; directory = dirname(directory)) {
    const descriptor = openSync(directory, 'r');
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    if (directory === last || directory === dirname(directory)) return;
  }
}
