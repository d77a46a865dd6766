// Makes sure that the tools which npm cannot install are there: wrk, for `npm run bench:ingest`. Exit code 0: all are
// there; 1: something is missing and could not be installed, which is then named.
import { spawnSync } from 'node:child_process';

const isThere = (command) => spawnSync(command, ['-v'], { stdio: 'ignore' }).error === undefined;

if (isThere('wrk')) process.exit(0);
const hasApt = spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).error === undefined;
if (hasApt && process.getuid?.() === 0) {
  console.log('installing wrk with apt-get');
  const options = { stdio: 'inherit', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
  const install = () => spawnSync('apt-get', ['install', '-y', 'wrk'], options).status === 0;
  // A fresh image has no package lists yet.
  if (!install()) {
    spawnSync('apt-get', ['update'], options);
    install();
  }
}
if (isThere('wrk')) process.exit(0);
console.error(
  'wrk is missing. Install it with your package manager (apt-get install wrk, brew install wrk).',
);
process.exit(1);
