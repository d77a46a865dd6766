// Reads profiles as their users do: with `go tool pprof` where there is a Go, and always with pprof's own format.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { Profile } from 'pprof-format';

/** What a profile says, with its numbers resolved. */
export interface ReadProfile {
  /** `cpu/nanoseconds` and the like. */
  readonly sampleTypes: readonly string[];
  readonly samples: readonly ReadSample[];
  readonly durationSeconds: number;
}

export interface ReadSample {
  /** The value of the label `thread`. */
  readonly thread: string;
  readonly values: readonly number[];
  /** The innermost first, as `name file:line`. */
  readonly stack: readonly string[];
}

export function readProfile(gzipped: Uint8Array): ReadProfile {
  const profile = Profile.decode(gunzipSync(gzipped));
  const { strings } = profile.stringTable;
  const text = (index: number | bigint): string => strings[Number(index)] ?? '';
  const functions = new Map(profile.function.map((entry) => [Number(entry.id), entry]));
  const places = new Map(
    profile.location.map(({ id, line: [frame] }) => {
      const named = functions.get(Number(frame?.functionId));
      assert.ok(named !== undefined && frame !== undefined);
      return [Number(id), `${text(named.name)} ${text(named.filename)}:${frame.line}`];
    }),
  );
  return {
    sampleTypes: profile.sampleType.map(({ type, unit }) => `${text(type)}/${text(unit)}`),
    samples: profile.sample.map(({ label, value, locationId }) => {
      const thread = label.find(({ key }) => text(key) === 'thread');
      assert.ok(thread !== undefined, 'a sample without a thread');
      return {
        thread: text(thread.str),
        values: value.map(Number),
        stack: locationId.map((id) => {
          const place = places.get(Number(id));
          assert.ok(place !== undefined, `no location ${id}`);
          return place;
        }),
      };
    }),
    durationSeconds: Number(profile.durationNanos) / 1e9,
  };
}

/** The names of the threads that have samples, sorted. */
export function threadsOf({ samples }: ReadProfile): string[] {
  return [...new Set(samples.map(({ thread }) => thread))].sort();
}

/** The functions of one thread that are in our sources, as `name src/...ts:line`. */
export function ownFunctions({ samples }: ReadProfile, thread: string): ReadonlySet<string> {
  const own = samples.filter((sample) => sample.thread === thread).flatMap(({ stack }) => stack);
  return new Set(own.filter((place) => / src\/[a-z_/]+\.ts:[1-9]\d*$/.test(place)));
}

const go = ['go', '/usr/local/go/bin/go'].find(
  (name) => (name.startsWith('/') ? existsSync(name) : true) && spawnSync(name, ['version']).status === 0,
);

/** What `go tool pprof` says of a profile; null, said loudly, where there is no Go. ESS_REQUIRE_ALL=1 forbids that. */
export function goPprof(context: TestContext, gzipped: Uint8Array, ...flags: string[]): string | null {
  if (go === undefined) {
    assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', 'there is no Go, and ESS_REQUIRE_ALL=1');
    context.diagnostic('there is no Go here: `go tool pprof` itself is NOT tested');
    return null;
  }
  const folder = mkdtempSync(join(tmpdir(), 'ess-pprof-'));
  try {
    const file = join(folder, 'profile.pb.gz');
    writeFileSync(file, gzipped);
    const { status, stdout, stderr } = spawnSync(go, ['tool', 'pprof', ...flags, file], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    return stdout;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
