// One thread of the tests in recorder.test.ts, board.test.ts and counters.test.ts: hammers what it is given, as its
// workerData says, then answers once.
import { parentPort, workerData } from 'node:worker_threads';
import { PartitionBoard } from '../../src/stats/board.ts';
import { Counters } from '../../src/stats/counters.ts';
import { StageRecorder } from '../../src/stats/recorder.ts';
import { type TortureTask, tortureCounterNames, tortureValues } from './torture.ts';

const task: TortureTask = workerData;

function work(): unknown {
  switch (task.type) {
    case 'record': {
      const recorder = new StageRecorder(['produce', 'insert'], () => 0);
      for (const value of tortureValues(task.seed, task.times)) recorder.record('produce', value);
      return recorder.snapshot('all');
    }
    case 'count': {
      const counters = new Counters(tortureCounterNames, task.shared);
      for (let i = 0; i < task.times; i += 1) {
        counters.add('one');
        counters.add('many', 1000);
        counters.add('level', i % 2 === 0 ? 3 : -2);
      }
      return null;
    }
    case 'raise': {
      const board = new PartitionBoard(task.shared);
      // Every thread raises an interleaved share of the numbers, so that threads overtake each other all the time;
      // a value that falls between two of its own reads is what must not be.
      let falls = 0;
      let before = 0;
      for (let i = 0; i < task.times; i += 1) {
        board.raise(1, 'stored', i * task.threads + task.thread);
        board.add(1, 'rows', 1);
        const now = board.get(1, 'stored');
        if (now < before) falls += 1;
        before = now;
      }
      return falls;
    }
  }
}

parentPort?.postMessage(work());
