// The worker's side of thread/protocol.ts.

import { parentPort } from 'node:worker_threads';
import { EssError } from '../errors.ts';
import type { StageRecorder } from '../stats/recorder.ts';
import type { FromWorker, ToWorker } from './protocol.ts';

/** Sends one message to the main thread. */
export type Send = (message: FromWorker) => void;

/**
 * Listens to the main thread: answers snapshots from the recorder and passes the rest on. The listener keeps the
 * worker's event loop alive, which its doorbell alone would not. Gives the way to send and the way to let go.
 */
export function openPort(
  recorder: StageRecorder,
  onMessage: (message: Exclude<ToWorker, { type: 'snapshot' }>) => void,
): { readonly send: Send; close(): void } {
  const port = parentPort;
  if (port === null) throw new EssError('internal', 'a worker entry was run as a main program');
  const send: Send = (message) => port.postMessage(message);
  port.on('message', (message: ToWorker) => {
    if (message.type === 'snapshot') {
      send({ type: 'snapshot', request: message.request, snapshot: recorder.snapshot(message.window) });
    } else onMessage(message);
  });
  return { send, close: () => port.close() };
}
