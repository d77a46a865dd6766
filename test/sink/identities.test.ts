// The set of recent identities against a model that remembers everything in a plain list.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hashIdentity, Identities, identityHash } from '../../src/sink/identities.ts';

/** Puts the hash of an identity where Identities looks for it. `shift`: bytes in front, which must not matter. */
function hash(id: string, source = '', shift = 0): void {
  const idBytes = Buffer.from(id);
  const bytes = Buffer.concat([Buffer.alloc(shift, 7), idBytes, Buffer.from(source)]);
  const idEnd = shift + idBytes.length;
  hashIdentity(bytes, shift, idEnd, idEnd, bytes.length);
}

function hashOf(id: string, source = '', shift = 0): string {
  hash(id, source, shift);
  return identityHash.join();
}

/** What Identities should be: a list in order of addition. */
class Model {
  readonly #capacityMax: number;
  entries: { key: string; timeMs: number }[] = [];
  completeSinceMs = Number.NEGATIVE_INFINITY;

  constructor(capacityMax: number) {
    this.#capacityMax = Math.max(1024, capacityMax);
  }

  add(key: string, timeMs: number): void {
    if (this.entries.length === this.#capacityMax) {
      const [oldest] = this.entries.splice(0, 1);
      this.forgetBefore((oldest?.timeMs ?? 0) + 1);
    }
    this.entries.push({ key, timeMs });
  }

  find(key: string): number {
    const times = this.entries.filter((entry) => entry.key === key).map(({ timeMs }) => timeMs);
    return times.length === 0 ? Number.NaN : Math.max(...times);
  }

  expireBefore(timeMs: number): void {
    const kept = this.entries.findIndex((entry) => entry.timeMs >= timeMs);
    this.entries.splice(0, kept < 0 ? this.entries.length : kept);
  }

  takeBack(count: number): void {
    this.entries.splice(Math.max(0, this.entries.length - count));
  }

  forgetBefore(timeMs: number): void {
    this.completeSinceMs = Math.max(this.completeSinceMs, timeMs);
  }
}

/** Longer than the times in these tests reach, except where a test is about it. */
const windowMs = 100_000;

test('it behaves as a bounded list of identities with their times', () => {
  const key = fc.nat(400).map(String);
  const time = fc.nat(5000);
  const step = fc.oneof(
    fc.record({ do: fc.constant('add' as const), from: fc.nat(3000), count: fc.nat(900), time }),
    fc.record({ do: fc.constant('add' as const), from: fc.nat(20), count: fc.nat(30), time }),
    fc.record({ do: fc.constant('find' as const), key }),
    fc.record({ do: fc.constant('expireBefore' as const), time }),
    fc.record({ do: fc.constant('takeBack' as const), count: fc.oneof(fc.nat(40), fc.nat(2000)) }),
    fc.record({ do: fc.constant('forgetBefore' as const), time }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), fc.constantFrom(1, 1025, 1500, 3000), (steps, max) => {
      const set = new Identities(max, windowMs);
      const model = new Model(max);
      for (const now of steps) {
        if (now.do === 'add') {
          for (let i = 0; i < now.count; i += 1) {
            // Times that are only nearly in order, as from several producers.
            const timeMs = now.time + i - (i % 7) * 3;
            hash(String(now.from + i));
            set.add(timeMs);
            model.add(String(now.from + i), timeMs);
          }
        } else if (now.do === 'find') {
          hash(now.key);
          assert.equal(set.find(), model.find(now.key));
        } else if (now.do === 'expireBefore') {
          set.expireBefore(now.time);
          model.expireBefore(now.time);
        } else if (now.do === 'takeBack') {
          set.takeBack(now.count);
          model.takeBack(now.count);
        } else {
          set.forgetBefore(now.time);
          model.forgetBefore(now.time);
        }
        assert.equal(set.count, model.entries.length);
        assert.equal(set.completeSinceMs, model.completeSinceMs);
      }
      for (let i = 0; i < 4000; i += 37) {
        hash(String(i));
        assert.equal(set.find(), model.find(String(i)));
      }
    }),
    { numRuns: 60 },
  );
});

test('everything added at or after completeSinceMs is found, however often the bound was reached', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50), { minLength: 1, maxLength: 60 }), (jumps) => {
      const set = new Identities(1024, windowMs);
      const added: { id: string; timeMs: number }[] = [];
      let at = 0;
      for (const [burst, jump] of jumps.entries()) {
        at += jump;
        for (let i = 0; i < 100; i += 1) {
          const id = `${burst}-${i}`;
          const timeMs = at + ((i * 13) % 10);
          hash(id);
          set.add(timeMs);
          added.push({ id, timeMs });
        }
      }
      for (const { id, timeMs } of added) {
        if (timeMs < set.completeSinceMs) continue;
        hash(id);
        assert.ok(set.find() >= timeMs);
      }
    }),
    { numRuns: 40 },
  );
});

test('an identity that was never added is not found, also in a full set', () => {
  const set = new Identities(5000, windowMs);
  for (let i = 0; i < 20_000; i += 1) {
    hash(`in-${i}`);
    set.add(i);
  }
  assert.equal(set.count, 5000);
  assert.equal(set.capacityMax, 5000);
  assert.equal(set.completeSinceMs, 15_000);
  for (let i = 0; i < 20_000; i += 1) {
    hash(`out-${i}`);
    assert.ok(Number.isNaN(set.find()));
  }
});

test('a hash depends on id and source, on where one ends and the other begins, and on nothing else', () => {
  assert.notEqual(hashOf('ab', 'c'), hashOf('a', 'bc'));
  assert.notEqual(hashOf('a', 'b'), hashOf('b', 'a'));
  assert.notEqual(hashOf('a'), hashOf('a\0'));
  assert.notEqual(hashOf('a'), hashOf('a', '\0'));
  const identity = fc.record({
    id: fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
    source: fc.string({ unit: 'binary', maxLength: 40 }),
  });
  fc.assert(
    fc.property(identity, identity, fc.nat(20), (a, b, shift) => {
      assert.equal(hashOf(a.id, a.source), hashOf(a.id, a.source, shift));
      const isSame =
        Buffer.from(a.id).equals(Buffer.from(b.id)) && a.source.toWellFormed() === b.source.toWellFormed();
      assert.equal(hashOf(a.id, a.source) === hashOf(b.id, b.source), isSame);
    }),
  );
});

test('a hundred thousand ids that differ little have a hundred thousand hashes', () => {
  const hashes = new Set<string>();
  for (let i = 0; i < 100_000; i += 1) hashes.add(hashOf(`event-${i % 100}-${Math.floor(i / 100)}`));
  assert.equal(hashes.size, 100_000);
});

test('what made room within the window is asked for, and hardly anything else is', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 500 }), (overflow, spreadMs) => {
      const set = new Identities(2048, windowMs);
      const added: { id: string; timeMs: number }[] = [];
      for (let i = 0; i < 2048 * overflow; i += 1) {
        // Times that are only nearly in order, far into the past century's scale of epoch milliseconds.
        const timeMs = 1.7e12 + Math.floor(i / 100) * spreadMs - (i % 7) * 3;
        hash(`in-${i}`);
        set.add(timeMs);
        added.push({ id: `in-${i}`, timeMs });
      }
      const latestMs = 1.7e12 + Math.floor((2048 * overflow) / 100) * spreadMs;
      for (const { id, timeMs } of added) {
        const sinceMs = Math.max(timeMs - 50, latestMs - windowMs);
        hash(id);
        if (timeMs >= sinceMs) assert.ok(set.find() >= timeMs || set.mayBeForgotten(sinceMs), id);
      }
      let asked = 0;
      for (let i = 0; i < 2000; i += 1) {
        hash(`out-${i}`);
        if (set.mayBeForgotten(latestMs - windowMs)) asked += 1;
      }
      // All of them in one stretch of time is the worst case: about one in nine.
      assert.ok(asked < 400, `${asked} of 2000`);
    }),
    { numRuns: 25 },
  );
});

test('before anything is known of a time, every identity may have been stored in it', () => {
  const set = new Identities(2048, windowMs);
  set.forgetBefore(5000);
  hash('a');
  assert.equal(set.mayBeForgotten(4999), true);
  assert.equal(set.mayBeForgotten(5000), false);
});
