// A producer worker dies under load: what it had is answered as unknown at once, a successor takes over, and nothing
// that was answered 200 is lost.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssProcess } from '../support/ess_process.ts';
import { assertProblem, atRest, outcomeOf, type SingleAnswer } from './answers.ts';

describe('the death of a producer worker', () => {
  let ess: EssProcess | null = null;
  after(() => ess?.dispose());

  test('every request is answered, and what was answered 200 is stored once', async () => {
    const env = { ESS_FAULT: 'producer.after_append:40:throw' };
    ess = await EssProcess.start({ flags: { producers: 1 }, env });
    const running = ess;
    const acknowledged = new Set<string>();
    let unknown = 0;
    await Promise.all(
      Array.from({ length: 4 }, async (_, client) => {
        for (let i = 0; i < 40; i += 1) {
          const id = `death-${client}-${i}`;
          // As a client should: the same event again until it is known.
          for (;;) {
            const outcome = await outcomeOf(await running.post(`{"id":"${id}"}`));
            if (outcome.status === 200) {
              assert.equal((JSON.parse(outcome.text) as SingleAnswer).id, id);
              acknowledged.add(id);
              break;
            }
            const { code } = JSON.parse(outcome.text) as { readonly code: string };
            const known = code === 'outcome_unknown' ? 'outcome_unknown' : 'overloaded';
            assertProblem(outcome, known);
            if (known === 'outcome_unknown') unknown += 1;
            await sleep(20);
          }
        }
      }),
    );
    const { conservation, counters, threads } = await atRest(running);
    assert.ok((counters['worker_deaths'] ?? 0) > 0);
    assert.ok(unknown > 0);
    assert.equal(acknowledged.size, 160);
    // A retry of an event that had reached the log is a duplicate, and no second row.
    assert.equal(conservation.stored, 160);
    assert.ok(threads.some(({ name, restarts }) => name === 'producer-0' && restarts > 0));
  });
});
