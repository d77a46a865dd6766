// docs/deploy.md: one process, compose, a release that is built once and installed on each machine, TLS.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { clickhouseNodes } from '../../src/config/clickhouse.ts';
import { kafkaTarget } from '../../src/config/kafka.ts';
import { loadConfig } from '../../src/config/load.ts';
import { certificate } from '../config/certificates.ts';
import { readCompose } from '../deploy/compose_file.ts';
import { type Entry, smallLoad } from './entry.ts';

/** The files, profiles, services and flags of a command line of Compose. */
function checkCompose(text: string): void {
  const flagsOf: Readonly<Record<string, readonly string[]>> = {
    build: [],
    down: [],
    logs: [],
    run: ['--rm'],
    up: ['--build', '--detach', '--no-deps', '--wait'],
  };
  const [, file = '', , profile, verb = '', rest = ''] =
    /^docker compose --file (\S+)( --profile (\S+))? (\w+)(.*)$/.exec(text) ?? [];
  assert.ok(existsSync(file), text);
  const { services } = readCompose();
  const profiles = Object.values(services).flatMap(({ profiles: own = [] }) => own);
  assert.ok(profile === undefined || profiles.includes(profile), text);
  const flags = flagsOf[verb];
  assert.ok(flags !== undefined, text);
  for (const word of rest.split(' ').filter((each) => each !== ''))
    assert.ok(word.startsWith('--') ? flags.includes(word) : word in services, `${text}: ${word}`);
}

export const deploy: readonly Entry[] = [
  {
    how: 'serve',
    commands: ['node --enable-source-maps dist/ess.js --role all --data-dir /var/lib/ess'],
    in: 'embedded',
    as: null,
  },
  {
    how: 'run',
    commands: ['cp compose/env.example compose/.env'],
    in: 'embedded',
    holds: (parts) => assert.ok(existsSync(join(parts.clone, 'compose/.env'))),
  },
  {
    how: 'run',
    commands: [/curl -X POST '.*\/events\/\?ack=store' .*"id": "first".*/],
    in: 'cluster',
    says: /"id":"first","ack":"store"/,
  },
  { how: 'run', commands: ['curl http://10.0.0.2:8081/events/first'], in: 'cluster', says: /"id":"first"/ },
  {
    how: 'not run',
    commands: [/docker compose .*/],
    why: 'there is no container engine where the tests run',
    check: checkCompose,
  },
  { how: 'run', commands: ['node scripts/tools.mjs k6'], in: 'embedded', needs: 'k6' },
  // Containers are not always allowed as many.
  { how: 'run', commands: ['ulimit -n 65536'], in: 'embedded', instead: () => [['65536', '$(ulimit -Hn)']] },
  {
    how: 'run',
    commands: [/\.cache\/tools\/usr\/bin\/k6 run .*/],
    in: 'cluster',
    env: smallLoad,
    needs: 'k6',
    says: /conservation: [1-9].*exact: true/,
  },

  {
    how: 'run',
    commands: ['npm prune --omit=dev && node scripts/slim.mjs'],
    in: 'fresh',
    first: (parts) => parts.ownModules(true),
    instead: () => [['--omit=dev', '--omit=dev --offline']],
    holds: (parts) => {
      for (const name of ['chdb', 'esbuild']) {
        assert.ok(!existsSync(join(parts.fresh, 'node_modules', name)), name);
        assert.ok(existsSync(join('node_modules', name)), name);
      }
    },
  },
  // A clone has commits; this copy has none.
  {
    how: 'run',
    commands: ['release=ess-$(git rev-parse --short HEAD)'],
    in: 'fresh',
    needs: 'git',
    instead: () => [
      [/^/g, 'git init -q; git -c user.name=a -c user.email=a@b.c commit -q --allow-empty -m a; '],
    ],
  },
  {
    how: 'run',
    commands: [/tar --create .*/],
    in: 'fresh',
    instead: () => [[/$/g, ' && echo "$release"']],
    holds: (parts, { out }) => {
      parts.release = out.trim();
      assert.match(parts.release, /^ess-[0-9a-f]+$/);
      // "some 15 MB"
      const bytes = statSync(join(parts.fresh, `${parts.release}.tar.gz`)).size;
      assert.ok(bytes > 5e6 && bytes < 30e6, String(bytes));
      parts.ownModules(false);
    },
  },
  {
    how: 'run',
    commands: [/useradd .* ess/],
    in: 'fresh',
    instead: (parts) => [['useradd ', `useradd --prefix ${parts.root} `]],
    holds: (parts) =>
      assert.match(
        readFileSync(join(parts.root, 'etc/passwd'), 'utf8'),
        /^ess:.*:\/nonexistent:\/usr\/sbin\/nologin$/m,
      ),
  },
  {
    how: 'run',
    commands: ['release=$(basename ess-*.tar.gz .tar.gz)'],
    in: 'fresh',
  },
  {
    how: 'run',
    commands: [/install -d -m 0755 "\/opt\/\$release"( \/etc\/ess)?/],
    in: 'fresh',
    holds: (parts) => assert.equal(statSync(join(parts.root, 'opt', parts.release)).mode & 0o7777, 0o755),
  },
  {
    how: 'run',
    commands: ['tar --extract --no-same-owner --file "$release.tar.gz" --directory "/opt/$release"'],
    in: 'fresh',
    holds: (parts) => assert.ok(existsSync(join(parts.root, 'opt', parts.release, 'dist/ess.js'))),
  },
  {
    how: 'run',
    commands: [/ln --symbolic --force .* \/(opt|usr\/local\/bin)\/ess/, 'readlink /opt/ess'],
    in: 'fresh',
    holds: (parts) => assert.equal(basename(readlinkSync(join(parts.root, 'opt/ess'))), parts.release),
  },
  {
    how: 'run',
    commands: [/install -m \d+ \/opt\/ess\/deploy\/systemd\/\S+ \/\S+/],
    in: 'fresh',
    holds: (parts, _ended, text) => {
      const [, mode = '', target = ''] = /-m (\d+) \S+ (\S+)$/.exec(text) ?? [];
      const file = join(parts.root, target.endsWith('/') ? `${target}ess-sink.service` : target);
      assert.equal(statSync(file).mode & 0o7777, Number.parseInt(mode, 8));
    },
  },
  {
    how: 'not run',
    commands: ['systemctl daemon-reload', /systemctl (edit|restart) ess-\w+/, /journalctl --unit ess-\w+/],
    why: 'no systemd runs where the tests run',
    check: (text) => {
      const [unit] = /ess-\w+/.exec(text) ?? [];
      assert.ok(unit === undefined || existsSync(`deploy/systemd/${unit}.service`), text);
    },
  },
  {
    how: 'run',
    commands: [/systemctl enable --now ess-(ingest|sink)/],
    in: 'fresh',
    needs: 'systemctl',
    // Links are made without a systemd that runs; nothing is started.
    instead: (parts) => [['systemctl enable --now', `systemctl --root=${parts.root} enable`]],
    holds: (parts, _ended, text) => {
      const unit = `${text.split(' ').at(-1)}.service`;
      readlinkSync(join(parts.root, 'etc/systemd/system/multi-user.target.wants', unit));
    },
  },
  {
    how: 'run',
    commands: [/curl --silent --retry 30 --retry-all-errors --fail http:\/\/127\.0\.0\.1:808[01]\/readyz/],
    in: 'cluster',
    // The answer of which the document speaks.
    says: /^\{"status":"ready","reasons":\[\]\}$/,
  },
  {
    how: 'run',
    commands: ['ess init'],
    in: 'cluster',
    // The program of the release, as /usr/local/bin/ess starts it, with the settings that the document tells to write.
    first: (parts) => {
      const file = join(parts.root, 'etc/ess/ess.env');
      let text = readFileSync(file, 'utf8');
      for (const [name, value] of Object.entries(parts.essEnv())) {
        const set = text.replace(new RegExp(`^${name}=.*$`, 'm'), () => `${name}=${value}`);
        text = set === text ? `${text}${name}=${value}\n` : set;
      }
      writeFileSync(file, text);
    },
    says: /Everything is as wanted\./,
  },
  { how: 'run', commands: ['ess doctor'], in: 'cluster', says: /^0 errors/m },
  {
    how: 'run',
    commands: [/ess doctor --url http:\/\/\S+:808[01]( --strict)?/],
    in: 'cluster',
    says: /^0 errors/m,
  },
  { how: 'run', commands: [/ess verify( --[a-z-]+)?/], in: 'cluster', says: /^exact/m },

  {
    how: 'run',
    commands: [/export ESS_.*/],
    in: 'cluster',
    first: ({ root }) => {
      const folder = join(root, 'etc/ess');
      // README, which comes first, knows no such folder.
      if (!existsSync(folder)) return;
      for (const name of ['kafka-ca.pem', 'clickhouse-ca.pem'])
        writeFileSync(join(folder, name), certificate);
      for (const name of ['kafka-password', 'clickhouse-password'])
        writeFileSync(join(folder, name), 'secret\n');
    },
    instead: () => [[/$/g, '; env']],
    holds: (_parts, { output }, text) => {
      const variables = Object.fromEntries(
        [...output.matchAll(/^(ESS_[A-Z_]+)=(.*)$/gm)].map(([, name = '', value = '']) => [name, value]),
      );
      // The last of a block: all of them together are a configuration.
      if (!text.includes('ESS_CLICKHOUSE_USER')) return;
      const config = loadConfig([], variables, 4);
      assert.equal(kafkaTarget(config)?.kind, 'kafka');
      assert.ok(clickhouseNodes(config) !== null);
    },
  },
  {
    how: 'not run',
    commands: ['install -o ess -g ess -m 0400 FILE /etc/ess/'],
    why: 'the user ess is not made on the machine of the tests',
    check: () => {},
  },
];
