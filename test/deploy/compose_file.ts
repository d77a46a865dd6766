// compose/compose.yaml as data, with its variables filled in: what the tests of this folder look at. Beside it,
// compose-spec.json is the schema of the Compose specification as compose-go 2.16.2 has it (Apache-2.0).

import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

export const composePath = 'compose/compose.yaml';

export interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly networks?: readonly string[];
  readonly profiles?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean };
  readonly restart?: string;
  readonly stop_grace_period?: string;
  readonly hostname?: string;
  readonly user?: string;
  readonly ulimits?: { readonly nofile?: { readonly soft: number } };
  readonly deploy?: {
    readonly resources?: { readonly limits?: { readonly cpus?: string; readonly memory?: string } };
  };
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks: Readonly<Record<string, unknown>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

/** What somebody who copies env.example must set. */
export const required: Readonly<Record<string, string>> = {
  ESS_CLICKHOUSE_PASSWORD: 'secret-of-the-test',
  GRAFANA_PASSWORD: 'other-secret',
};

const text = readFileSync(composePath, 'utf8');
const reference = /\$\{(\w+)(?::([-?])([^}]*))?\}/g;

/** Names of the variables that the file takes from compose/.env, with their defaults; null for those that must be set. */
export function readVariables(): Map<string, string | null> {
  const found = new Map<string, string | null>();
  for (const [, name = '', kind, fallback = ''] of text.matchAll(reference))
    found.set(name, kind === '-' ? fallback : null);
  return found;
}

/** The whole file, its variables being the defaults, and `required`. */
export function readCompose(): ComposeFile {
  const filled = text.replace(
    reference,
    (_, name: string, kind: string, fallback: string) => required[name] ?? (kind === '-' ? fallback : ''),
  );
  return parse(filled, { merge: true }) as ComposeFile;
}

/** The environment of a service as its process sees it. */
export function environmentOf({ environment = {} }: Service): Record<string, string> {
  return Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, String(value)]));
}

/** `KEY=value` of the image, as the Dockerfile sets them. */
export function imageEnvironment(): Record<string, string> {
  const dockerfile = readFileSync('Dockerfile', 'utf8').replace(/\\\n/g, ' ');
  const [, pairs = ''] = /^ENV (.*)$/m.exec(dockerfile) ?? [];
  return Object.fromEntries(
    pairs
      .trim()
      .split(/\s+/)
      .map((pair) => pair.split('=', 2) as [string, string]),
  );
}
