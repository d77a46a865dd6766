// Another thread or process that uses the embedded log, for the tests: it does what its task says and reports.
// As a thread the task is the workerData; as a process it is the first argument, and each report is one line.

import { writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { open } from 'lmdb';
import { EssError } from '../../src/errors.ts';
import {
  type EmbeddedLogOptions,
  openEmbeddedAppender,
  openEmbeddedConsumer,
} from '../../src/log/embedded/open.ts';
import type { AppendResult } from '../../src/log/log.ts';
import { until } from './eventually.ts';
import { idsOf, packed } from './records.ts';

export type ActorTask =
  /** Appends calls of one batch per partition; record ids are `name/call/partition/index`. */
  | {
      readonly type: 'append';
      readonly options: EmbeddedLogOptions;
      readonly name: string;
      readonly calls: number;
      readonly count: number;
      readonly bodyBytes: number;
    }
  /** Consumes and commits until it has had so many records. */
  | {
      readonly type: 'consume';
      readonly options: EmbeddedLogOptions;
      readonly records: number;
    }
  /** Opens a snapshot and holds it until it is killed; reports as soon as it has it. */
  | { readonly type: 'hold'; readonly options: EmbeddedLogOptions }
  /** Appends until the log refuses, consumes and trims everything, and appends again. */
  | { readonly type: 'fill'; readonly options: EmbeddedLogOptions };

export type ActorReport =
  | { readonly type: 'settled'; readonly call: number; readonly offsets: readonly AppendResult[] }
  /** Records of each partition, by name, all in order and none missing or repeated. */
  | { readonly type: 'consumed'; readonly counts: Readonly<Record<string, number>> }
  | {
      readonly type: 'filled';
      readonly code: string;
      /** Ends of the partitions were unchanged by the refused append. */
      readonly isUnchanged: boolean;
      readonly settledBefore: number;
      readonly settledAfter: number;
    }
  | { readonly type: 'held' }
  | { readonly type: 'done' };

function report(message: ActorReport): void {
  if (parentPort !== null) parentPort.postMessage(message);
  else writeSync(1, `${JSON.stringify(message)}\n`);
}

async function append(task: ActorTask & { type: 'append' }): Promise<void> {
  const appender = await openEmbeddedAppender(task.options);
  const partitions = [...Array(appender.partitions).keys()];
  for (let call = 0; call < task.calls; call += 1) {
    const batches = partitions.map((partition) => ({
      partition,
      count: task.count,
      bytes: packed(
        Array.from({ length: task.count }, (_, i) => `${task.name}/${call}/${partition}/${i}`),
        task.bodyBytes,
      ),
    }));
    try {
      report({ type: 'settled', call, offsets: await appender.append(batches) });
    } catch (error) {
      if (error instanceof EssError && error.code === 'stopping') break;
      throw error;
    }
    await new Promise(setImmediate);
  }
  await appender.close();
}

async function consume(task: ActorTask & { type: 'consume' }): Promise<void> {
  const consumer = await openEmbeddedConsumer({ ...task.options, index: 0, count: 1, pollMs: 2 });
  const next = new Map<number, number>();
  const counts: Record<string, number> = {};
  const last = new Map<string, string>();
  let total = 0;
  let commits = Promise.resolve();
  const check = (id: string, partition: number) => {
    const [name, call, within, index] = id.split('/');
    const stream = `${name}/${partition}`;
    const [lastCall = '-1', lastIndex = '-1'] = last.get(stream)?.split('/') ?? [];
    const follows =
      (call === lastCall && Number(index) === Number(lastIndex) + 1) ||
      (Number(call) === Number(lastCall) + 1 && index === '0');
    if (!follows || Number(within) !== partition) {
      throw new Error(`${id} follows ${lastCall}/${lastIndex} in partition ${partition}`);
    }
    last.set(stream, `${call}/${index}`);
    counts[stream] = (counts[stream] ?? 0) + 1;
    total += 1;
  };
  await consumer.start({
    assigned: (partition, { offset }) => next.set(partition, offset),
    revoked: () => {},
    changed: () => {},
    dataArrived: () => {
      for (const [partition, from] of next) {
        let at = from;
        for (;;) {
          const after = consumer.read(partition, at, 100_000, (_base, _count, bytes) => {
            for (const id of idsOf(bytes)) check(id, partition);
          });
          if (after === at) break;
          at = after;
          commits = commits.then(() => consumer.commit(partition, after, `at ${after}`));
        }
        next.set(partition, at);
      }
    },
  });
  await until(() => total >= task.records);
  await commits;
  report({ type: 'consumed', counts });
  await consumer.close();
}

async function fill(task: ActorTask & { type: 'fill' }): Promise<void> {
  const appender = await openEmbeddedAppender(task.options);
  const consumer = await openEmbeddedConsumer({ ...task.options, index: 0, count: 1 });
  const batch = packed(
    Array.from({ length: 20 }, (_, i) => `${i}`),
    2000,
  );
  const appendOne = () => appender.append([{ partition: 0, count: 20, bytes: batch }]);
  const endOf = async () => (await appender.states())[0]?.end ?? Number.NaN;
  let settledBefore = 0;
  let code = '';
  while (code === '') {
    try {
      await appendOne();
      settledBefore += 20;
    } catch (error) {
      code = error instanceof EssError ? error.code : String(error);
    }
  }
  const isUnchanged = (await endOf()) === settledBefore;
  await consumer.commit(0, settledBefore, '');
  while ((await appender.trim()) > 0);
  let settledAfter = 0;
  for (let i = 0; i < settledBefore / 40; i += 1) {
    await appendOne();
    settledAfter += 20;
  }
  let visited = 0;
  consumer.read(0, settledBefore, 1 << 30, (_base, count) => {
    visited += count;
  });
  report({ type: 'filled', code, isUnchanged, settledBefore, settledAfter: Math.min(visited, settledAfter) });
  await consumer.close();
  await appender.close();
}

async function hold(task: ActorTask & { type: 'hold' }): Promise<void> {
  const root = open({ path: task.options.path, noSubdir: false, overlappingSync: false, maxDbs: 8 });
  root.useReadTransaction();
  report({ type: 'held' });
  await new Promise(() => setInterval(() => {}, 1000));
}

const task: ActorTask = parentPort === null ? JSON.parse(process.argv[2] ?? '') : workerData;
if (task.type === 'append') await append(task);
else if (task.type === 'consume') await consume(task);
else if (task.type === 'hold') await hold(task);
else await fill(task);
report({ type: 'done' });
