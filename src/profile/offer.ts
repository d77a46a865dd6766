// A worker thread's profiler, offered to the main thread. Called at the top of a worker's entry, before it allocates
// what a heap profile should show.

import { MessageChannel, parentPort } from 'node:worker_threads';
import { EssError } from '../errors.ts';
import type { FromProfiler, ProfilerOffer, ToProfiler } from './messages.ts';
import { Profiler } from './profiler.ts';

/**
 * Loads the profiler and sends the main thread a port to it. A profiler that does not load is not offered: the main
 * thread has met the same fault and answers with it.
 */
export async function offerProfiler(): Promise<void> {
  if (parentPort === null) throw new EssError('internal', 'a worker entry was run as a main program');
  const profiler = await Profiler.open().catch(() => null);
  if (profiler === null) return;
  const { port1: port, port2 } = new MessageChannel();
  port.on('message', (message: ToProfiler) => serve(profiler, message, port.postMessage.bind(port)));
  // The thread ends when its own work is done, whoever may still ask for profiles.
  port.unref();
  const offer: ProfilerOffer = { type: 'profiler', port: port2 };
  parentPort.postMessage(offer, [port2]);
}

type Answer = (message: FromProfiler, transfer?: readonly ArrayBuffer[]) => void;

function serve(profiler: Profiler, message: ToProfiler, answer: Answer): void {
  try {
    switch (message.type) {
      case 'start_time':
        profiler.startTime();
        break;
      case 'drop_time':
        profiler.dropTime();
        break;
      case 'stop_time':
      case 'heap': {
        const bytes = message.type === 'heap' ? profiler.heap() : profiler.stopTime();
        if (bytes === null) answer({ type: 'failed', request: message.request, why: 'it had not begun' });
        else answer({ type: 'profile', request: message.request, bytes }, [bytes.buffer]);
        break;
      }
    }
  } catch (error) {
    // A profiler that fails must not take its thread with it. A start that failed shows at the stop.
    if (message.type === 'start_time' || message.type === 'drop_time') return;
    answer({
      type: 'failed',
      request: message.request,
      why: error instanceof Error ? error.message : String(error),
    });
  }
}
