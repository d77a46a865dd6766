// How a command of the documents is run by the test of this folder, and what comes of it; or why it cannot be run and how it
// is looked at instead.

import type { Command } from './document.ts';
import type { Parts, Place, Substitutions } from './parts.ts';
import type { Ended } from './running.ts';

interface Common {
  /** The command as it is written, or an expression that is the whole of it. */
  readonly commands: readonly (string | RegExp)[];
}

/** It ends by itself. */
export interface Run extends Common {
  readonly how: 'run';
  readonly in: Place;
  /** What else than hosts, ports and paths is not run as it is written. */
  readonly instead?: (parts: Parts) => Substitutions;
  readonly env?: Readonly<Record<string, string>>;
  /** Exit code, default 0. */
  readonly code?: (command: Command) => number;
  readonly says?: RegExp;
  /** What a person does before. */
  readonly first?: (parts: Parts) => Promise<void> | void;
  /** What else has to be so afterwards. */
  readonly holds?: (parts: Parts, ended: Ended, text: string) => Promise<void> | void;
  /** A program that not every machine has. */
  readonly needs?: string;
}

/** It goes on until it is ended. */
export interface Serve extends Common {
  readonly how: 'serve';
  readonly in: Place;
  readonly instead?: (parts: Parts) => Substitutions;
  readonly env?: Readonly<Record<string, string>>;
  /** Goes on under this name while the commands after it are run; null: is ended as soon as it listens. */
  readonly as: 'embedded' | 'ingest' | 'sink' | null;
  readonly needs?: string;
}

export interface NotRun extends Common {
  readonly how: 'not run';
  readonly why: string;
  /** Throws if what can be told without running it is wrong. */
  readonly check: (text: string) => void;
}

export type Entry = Run | Serve | NotRun;

/** Packages are there: .ci/run runs `npm ci` before this test. */
export const installed: Substitutions = [['npm ci && ', '']];

/** Makes a scenario of k6 small. */
export const smallLoad = { VUS: '4', RAMP_SECONDS: '2', P95_MS: '60000', DRAIN_SECONDS: '120' };
