// Sends NDJSON batches over a few keep-alive connections, as fast as they are answered. A process of its own, so that
// its CPU time is not the service's; the texts are stamped, not serialised, which costs some 60 ns an event.

import { Connection, postHead } from './support/connection.ts';
import { EventBatch } from './support/event_batch.ts';
import { answerRequests } from './support/helper.ts';

/** Send `events` events, in batches of `batchEvents`; the last one may hold more than is left. */
export interface SendRequest {
  readonly url: string;
  /** Goes into every id: 0 to 99,999,999. */
  readonly run: number;
  readonly events: number;
  readonly batchEvents: number;
  readonly connections: number;
}

export interface SendReply {
  readonly sent: number;
  /** Events that the answers say were accepted. */
  readonly accepted: number;
  /** Answers that were not 200, by status. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly seconds: number;
  readonly answer_p50_ms: number;
  readonly answer_p99_ms: number;
  /** Of this process. */
  readonly cpu_s: number;
  readonly bytes: number;
}

async function send(request: SendRequest): Promise<SendReply> {
  const { url, run, events, batchEvents, connections } = request;
  const { host } = new URL(url);
  const batchesMax = Math.ceil(events / batchEvents);
  const cpuBefore = process.cpuUsage();
  const timesMs: number[] = [];
  const refusals: Record<string, number> = {};
  let batches = 0;
  let accepted = 0;
  let bytes = 0;

  const work = async (connection: Connection, batch: EventBatch): Promise<void> => {
    const head = postHead(host, '', 'application/x-ndjson', batch.bytes.length);
    while (batches < batchesMax) {
      batch.stamp(batches * batchEvents);
      batches += 1;
      const startedMs = performance.now();
      const { status, body } = await connection.send(head, batch.bytes);
      timesMs.push(performance.now() - startedMs);
      bytes += batch.bytes.length;
      if (status === 200) accepted += (JSON.parse(body.toString()) as { readonly accepted: number }).accepted;
      else refusals[status] = (refusals[status] ?? 0) + 1;
    }
  };

  const opened = await Promise.all(Array.from({ length: connections }, () => Connection.open(url)));
  const made = opened.map(() => new EventBatch(batchEvents, run));
  const startedMs = performance.now();
  await Promise.all(
    opened.map((connection, i) => work(connection, made[i] ?? new EventBatch(batchEvents, run))),
  );
  const seconds = (performance.now() - startedMs) / 1000;
  for (const connection of opened) connection.close();

  timesMs.sort((a, b) => a - b);
  const percentile = (share: number): number =>
    Math.round((timesMs[Math.min(timesMs.length - 1, Math.floor(timesMs.length * share))] ?? 0) * 10) / 10;
  const { user, system } = process.cpuUsage(cpuBefore);
  return {
    sent: batches * batchEvents,
    accepted,
    refusals,
    seconds,
    answer_p50_ms: percentile(0.5),
    answer_p99_ms: percentile(0.99),
    cpu_s: (user + system) / 1e6,
    bytes,
  };
}

answerRequests<SendRequest, SendReply>(send);
