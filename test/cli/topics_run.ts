// Runs `ess topics` in this process for its tests.

import { Readable, Writable } from 'node:stream';
import { runTopics } from '../../src/cli/topics.ts';

class Sink extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.text += chunk.toString();
    callback();
  }
}

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

interface Circumstances {
  readonly signal?: AbortSignal;
  readonly stdin?: Readable & { readonly isTTY?: boolean };
}

/** Runs `ess topics`; three minutes are enough for any change here, on a slow machine too. */
export async function run(argv: readonly string[], circumstances: Circumstances = {}): Promise<Outcome> {
  const stdout = new Sink();
  const stderr = new Sink();
  const { signal = new AbortController().signal, stdin = Readable.from([]) } = circumstances;
  const isWaiting = argv.includes('--wait-ms') || argv.length === 0 || argv.includes('--help');
  const waiting = isWaiting ? [] : ['--wait-ms', '180000'];
  const code = await runTopics([...argv, ...waiting], { env: {}, cores: 2, stdin, stdout, stderr, signal });
  return { code, out: stdout.text, err: stderr.text };
}
