// What a running process says of itself at /stats, as lines of `ess doctor`. Runs on the main thread of a process of its own.

import { type TroubleKind, troubleAnchor, troubleKinds } from '../../live/troubles.ts';
import { reasonOf } from '../init/patience.ts';
import type { Deadline, Task } from './patient.ts';
import { failure, type Line, ok, unknown, warning } from './report.ts';

export function serviceTask(url: string, deadline: Deadline): Task {
  return {
    ids: ['service_status', 'service_conservation'],
    subject: url,
    run: async () => {
      let stats: unknown;
      try {
        const signal = AbortSignal.timeout(deadline.questionMs);
        const response = await fetch(`${url}/stats?window=1m`, { signal });
        stats = await response.json();
      } catch (error) {
        const cause = error instanceof Error && error.cause !== undefined ? `: ${reasonOf(error.cause)}` : '';
        const mend = 'section Process not answering of docs/operations.md';
        return [
          failure('service_status', url, `does not answer at /stats: ${reasonOf(error)}${cause}`, mend),
          unknown('service_conservation', url, 'the process does not answer'),
        ];
      }
      return serviceLines(url, stats);
    },
  };
}

/** `stats`: the body of /stats, not looked at yet. */
export function serviceLines(url: string, stats: unknown): Line[] {
  const { status, troubles, conservation } = membersOf(stats);
  if (typeof status !== 'string' || !Array.isArray(troubles))
    return [
      failure(
        'service_status',
        url,
        'its /stats is not that of an ess of this version',
        'run the doctor of the same version',
      ),
    ];
  const lines = troubles.map((trouble: unknown): Line => {
    const { kind, text } = membersOf(trouble);
    const found = `${String(kind)}: ${String(text)}`;
    if (!isTroubleKind(kind)) return warning('service_status', url, found, 'docs/operations.md');
    const line = troubleKinds[kind].level === 'error' ? failure : warning;
    return line('service_status', url, found, `section ${url}/operations#${troubleAnchor(kind)}`);
  });
  if (lines.length === 0) lines.push(ok('service_status', url, status));
  const { exact } = membersOf(conservation);
  const check = 'service_conservation';
  if (exact === true) lines.push(ok(check, url, 'exact'));
  else if (exact === false)
    lines.push(
      failure(
        check,
        url,
        'the figures do not add up',
        `keep the data; section ${url}/operations#conservation`,
      ),
    );
  else lines.push(unknown(check, url, 'this process does not know the ledger (a process with sinks does)'));
  return lines;
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function isTroubleKind(kind: unknown): kind is TroubleKind {
  return typeof kind === 'string' && kind in troubleKinds;
}
