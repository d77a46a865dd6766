// Where a command finds the service that runs here, if nobody names it: at the host and port that `ess serve` would take
// from the environment and its configuration file. Runs on the main thread of a command's process.

import { loadConfig } from '../config/load.ts';
import { EssError } from '../errors.ts';

/** `given` is what --url says. Throws EssError `bad_option`. */
export function serviceUrl(given: string | undefined, env: NodeJS.ProcessEnv, cores: number): URL {
  if (given === undefined) {
    const { host, port } = loadConfig([], env, cores);
    // What listens everywhere is reached here.
    const name = { '0.0.0.0': '127.0.0.1', '::': '::1' }[host] ?? host;
    return new URL(`http://${name.includes(':') ? `[${name}]` : name}:${port}/`);
  }
  const url = URL.canParse(given) ? new URL(given) : null;
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw new EssError(
      'bad_option',
      `--url is ${JSON.stringify(given)}, but must be like http://127.0.0.1:8080`,
    );
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}
