// A process of its own for a part of a bench, so that its CPU time and its memory are its own too: started from the
// same build, it is asked one thing after the other.

import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The asking side. `Request` and `Reply` cross as JSON. */
export class Helper<Request extends object, Reply> {
  readonly #child: ChildProcess;
  readonly #name: string;

  /** `name` is that of the built entry, such as "bench.direct_insert". */
  constructor(name: string) {
    this.#name = name;
    const entry = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
    this.#child = fork(entry, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Settles with the answer; rejects if the helper ends instead. One question at a time. */
  ask(request: Request): Promise<Reply> {
    const child = this.#child;
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null, signal: string | null): void =>
        reject(new Error(`${this.#name} ended with ${code ?? signal}`));
      if (child.exitCode !== null || child.signalCode !== null) {
        onExit(child.exitCode, child.signalCode);
        return;
      }
      child.once('exit', onExit);
      child.once('message', (reply) => {
        child.off('exit', onExit);
        resolve(reply as Reply);
      });
      child.send(request);
    });
  }

  /** Lets it end by itself, then makes sure. */
  async end(): Promise<void> {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
    if (child.connected) child.disconnect();
    await ended;
    clearTimeout(timer);
  }
}

/** The answering side: calls `answer` for every request, in order; `onEnd` when the bench has no more. */
export function answerRequests<Request, Reply>(
  answer: (request: Request) => Promise<Reply>,
  onEnd: () => Promise<void> = async () => {},
): void {
  process.on('message', (request) => {
    answer(request as Request).then(
      (reply) => process.send?.(reply),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
  process.on('disconnect', () => {
    void onEnd().finally(() => process.exit());
  });
}
