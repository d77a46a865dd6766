// The text of `ess --help`, made from the option table.

import type { Flag } from './load.ts';
import {
  type Option,
  type OptionName,
  optionDefault,
  optionFlag,
  optionGroups,
  optionRange,
  options,
  optionVariable,
} from './options.ts';

/** No line of a help text is longer. */
const columnsMax = 100;

const usage = `ess: events over HTTP into a durable log and ClickHouse, exactly once, with statistics.

Usage:
  ess [serve] [OPTIONS]            run the service
  ess init [OPTIONS]               make or check topics and tables (ess init --help)
  ess doctor [OPTIONS]             say what is wrong and what mends it (ess doctor --help)
  ess send [OPTIONS] FILE... | -   send events from files or standard input (ess send --help)
  ess verify [OPTIONS]             prove that nothing was lost or doubled (ess verify --help)
  ess dlq list|show|replay|discard dead letters of the running service (ess dlq --help)
  ess topics ACTION [OPTIONS]      describe, extend, move Kafka's topics (ess topics --help)
  ess help | --help                this text
  ess --version                    the version

Options of serve. A flag (--port 9000 or --port=9000) wins over the environment (ESS_PORT=9000),
which wins over the JSON file ({"port": 9000}; keys have underscores), which wins over the default.
Passwords have no flag: they come from the environment or from a file that an option names.

  --config FILE  (ESS_CONFIG)
      Read options from this JSON file.
`;

/** The whole text, ending with a line feed; at most 100 columns wide. */
export function helpText(): string {
  return `${usage}\n${optionGroups
    .map(({ title, names }) => `${title}:\n${names.map(optionText).join('')}`)
    .join('\n')}`;
}

function optionText(name: OptionName): string {
  const option: Option = options[name];
  if (option.type === 'secret') {
    const origin = `only from the environment, or from the file of --${optionFlag(option.fileOption)}`;
    return `  ${optionVariable(name)}\n${wrapped(`${option.description} (${origin}; default ${optionDefault(option)})`, 6)}`;
  }
  const placeholder = { string: 'TEXT', choice: 'NAME', number: 'NUMBER' }[option.type];
  const range = option.type === 'string' ? '' : `${optionRange(option)}; `;
  const description = `${option.description} (${range}default ${optionDefault(option)})`;
  return `  --${optionFlag(name)} ${placeholder}  (${optionVariable(name)})\n${wrapped(description, 6)}`;
}

/** A flag that a command has of its own. */
export interface FlagInfo extends Flag {
  /** Its value in the help text; none for one that is only given or not. */
  readonly placeholder?: string;
  /** Behind its name. */
  readonly remark?: string;
  readonly description: string;
}

/** The part of a command's help text that tells of its own flags, by name. */
export function flagsText(flags: Readonly<Record<string, FlagInfo>>): string {
  return Object.entries(flags)
    .map(([name, { placeholder, remark, description }]) => {
      const words = [`  --${name}`, placeholder, remark].filter((word) => word !== undefined);
      return `${words.join(' ')}\n${wrapped(description, 6)}`;
    })
    .join('');
}

/** The text in lines of at most 100 columns, each behind `indent` spaces and with a line feed at its end. */
export function wrapped(text: string, indent: number): string {
  const margin = ' '.repeat(indent);
  let lines = '';
  let line = margin;
  for (const word of text.split(' ')) {
    if (line !== margin && line.length + 1 + word.length > columnsMax) {
      lines += `${line}\n`;
      line = margin;
    }
    line += line === margin ? word : ` ${word}`;
  }
  return `${lines}${line}\n`;
}
