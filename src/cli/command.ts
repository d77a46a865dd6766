// Which command a command line means. Only this, so that the entry point knows what to load.

import { suggestion } from '../config/load.ts';

export type Command =
  | { readonly type: 'serve' | OwnHelp; readonly argv: readonly string[] }
  | { readonly type: 'help' | 'version' }
  | { readonly type: 'unknown'; readonly message: string };

/** Commands that have a help text of their own. */
const withOwnHelp = ['init', 'doctor', 'verify', 'dlq', 'topics', 'send'] as const;
type OwnHelp = (typeof withOwnHelp)[number];

const names = ['serve', ...withOwnHelp, 'help'] as const;

/** The command for the arguments after `node` and the script. Without a name it is `serve`. */
export function commandOf(argv: readonly string[]): Command {
  const [first, ...rest] = argv;
  const own = ownHelp(first);
  if (own !== undefined) return { type: own, argv: rest };
  if (first === 'help') {
    const about = ownHelp(rest[0]);
    return about === undefined ? { type: 'help' } : { type: about, argv: ['--help'] };
  }
  const isServe = first === undefined || first === 'serve' || first.startsWith('-');
  if (!isServe) {
    return {
      type: 'unknown',
      message: `unknown command ${JSON.stringify(first)}${suggestion(first, names)}`,
    };
  }
  if (argv.includes('--help') || argv.includes('-h')) return { type: 'help' };
  if (argv.includes('--version')) return { type: 'version' };
  return { type: 'serve', argv: first === 'serve' ? rest : argv };
}

function ownHelp(name: string | undefined): OwnHelp | undefined {
  return withOwnHelp.find((candidate) => candidate === name);
}
