// Runs every compiled test under node:test, or only those whose file name contains one of the arguments:
//   npm test                      all of them
//   npm test -- ring test.log     dist-test/*ring*.test.js and dist-test/*test.log*.test.js
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { missingKafka } from './kafka.mjs';
import { missingTools, toolsPath } from './tools.mjs';

const missing = [...missingTools(), ...(await missingKafka())];
if (missing.length > 0) console.error(`not to be had, their tests are skipped: ${missing.join(', ')}`);

const wanted = process.argv.slice(2);
const files = readdirSync('dist-test')
  .filter((name) => name.endsWith('.test.js'))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .map((name) => `dist-test/${name}`);
const { status } = spawnSync(
  process.execPath,
  // One file at a time: several engines at once on a small machine make every time-out a lottery.
  ['--enable-source-maps', '--test', '--test-concurrency=1', '--test-reporter=spec', ...files],
  { stdio: 'inherit', env: { ...process.env, PATH: toolsPath } },
);
process.exit(status ?? 1);
