import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type ErrorCode, errorKinds } from '../../src/errors.ts';
import {
  Counters,
  counterKinds,
  counterNames,
  createCounters,
  rejectedCounter,
} from '../../src/stats/counters.ts';
import { runTask, tortureCounterNames } from './torture.ts';

describe('Counters', () => {
  it('add up exactly when several threads add at once', async () => {
    const shared = createCounters(tortureCounterNames);
    const threads = 4;
    const times = 50_000;
    await Promise.all(Array.from({ length: threads }, () => runTask({ type: 'count', shared, times })));
    const counters = new Counters(tortureCounterNames, shared);
    assert.equal(counters.get('one'), threads * times);
    assert.equal(counters.get('many'), threads * times * 1000);
    assert.equal(counters.get('level'), (threads * times) / 2);
  });

  it('go on beyond 32 bits', () => {
    const counters = new Counters(['a', 'b'], createCounters(['a', 'b']));
    counters.add('a', 2 ** 40);
    counters.add('a');
    assert.equal(counters.get('a'), 2 ** 40 + 1);
    assert.equal(counters.get('b'), 0);
  });

  it('refuse a fraction and memory that was made for other names', () => {
    const counters = new Counters(['a'], createCounters(['a']));
    assert.throws(() => counters.add('a', 0.5), { code: 'internal' });
    assert.throws(() => new Counters(['a', 'b'], createCounters(['a'])), { code: 'internal' });
    assert.throws(() => new Counters(['a', 'a'], createCounters(['a', 'a'])), { code: 'internal' });
  });

  it('of the process include one for every error code', () => {
    const counters = new Counters(counterNames, createCounters(counterNames));
    for (const code of Object.keys(errorKinds) as ErrorCode[]) counters.add(rejectedCounter(code));
    assert.equal(counters.get('requests_rejected_overloaded'), 1);
    assert.equal(
      counterNames.filter((name) => counters.get(name) === 1).length,
      Object.keys(errorKinds).length,
    );
  });

  it('that share a metric share its help and type and differ in labels', () => {
    const seen = new Map<string, { type: string; help: string; labels: Set<string> }>();
    for (const { metric, type, help, labels } of counterKinds.values()) {
      const known = seen.get(metric) ?? { type, help, labels: new Set() };
      seen.set(metric, known);
      assert.equal(known.type, type);
      assert.equal(known.help, help);
      const text = JSON.stringify(labels);
      assert.ok(!known.labels.has(text));
      known.labels.add(text);
    }
  });
});
