import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LoopDelay, recordLateness } from '../../src/stats/loop_delay.ts';
import { StageRecorder } from '../../src/stats/recorder.ts';

function recordings(lateUs: number): number[] {
  const seen: number[] = [];
  recordLateness({ record: (_stage, microseconds) => seen.push(microseconds) }, lateUs);
  return seen;
}

describe('LoopDelay', () => {
  it('records how long the loop was held up, with the ticks that could not run meanwhile', async () => {
    const recorder = new StageRecorder(['event_loop_delay'], () => 0);
    const loopDelay = new LoopDelay(recorder);
    loopDelay.start();
    loopDelay.start();
    await sleep(50);
    const until = performance.now() + 300;
    while (performance.now() < until);
    await sleep(50);
    loopDelay.stop();
    const counts = recorder.snapshot('all').stages.event_loop_delay;
    assert.ok(counts !== undefined);
    // A tick was due at most 20 ms after the loop stood still for 300 ms.
    assert.ok(counts.max >= 270_000, `largest: ${counts.max} us`);
    assert.ok(counts.count >= 13, `ticks: ${counts.count}`);
  });

  it('records nothing more once stopped', async () => {
    const recorder = new StageRecorder(['event_loop_delay'], () => 0);
    const loopDelay = new LoopDelay(recorder);
    loopDelay.start();
    loopDelay.stop();
    await sleep(60);
    assert.equal(recorder.snapshot('all').stages.event_loop_delay, undefined);
  });

  it('counts one punctual tick as one, and a late one with what was left at each missed tick', () => {
    assert.deepEqual(recordings(300), [300]);
    assert.deepEqual(recordings(39_999), [39_999]);
    assert.deepEqual(recordings(70_000), [70_000, 50_000, 30_000]);
  });

  it('does not work for ever after a very long pause', () => {
    assert.equal(recordings(Number.POSITIVE_INFINITY).length, 180_000);
  });
});
