// The text of docs/configuration.md, made from the option table. scripts/docs.mjs writes the file.

import {
  type Option,
  type OptionName,
  optionDefault,
  optionFlag,
  optionGroups,
  optionKey,
  optionRange,
  options,
  optionVariable,
} from './options.ts';

const introduction = `# Configuration

<!-- Generated from src/config/options.ts by scripts/docs.mjs: edit there, then run \`node scripts/docs.mjs\`. -->

Every option can be set in three ways. A flag wins over the environment, the environment over the file, the file over
the default:

| | example |
|---|---|
| flag | \`--sink-linger-ms 100\` or \`--sink-linger-ms=100\` |
| environment | \`ESS_SINK_LINGER_MS=100\` |
| JSON file, named by \`--config FILE\` or \`ESS_CONFIG\` | \`{"sink_linger_ms": 100}\` |

Unknown names, values out of range and combinations that cannot work stop the start with exit code 2 and a line that
names the option and where it came from. An empty environment variable counts as not set; of a flag given twice the
last one counts. Sizes are bytes, times milliseconds, without suffixes. What the bounds add up to is printed at start.

Passwords are taken from the environment or from the first line of a file that an option names, never from the command
line, the JSON file or a URL, where others could read them. Files of passwords and certificates are read once, at start.
`;

/** The whole document, ending with a line feed. */
export function configurationMarkdown(): string {
  return `${introduction}\n${optionGroups
    .map(({ title, names }) => `## ${title}\n\n${names.map(optionSection).join('\n')}`)
    .join('\n')}`;
}

function optionSection(name: OptionName): string {
  const option: Option = options[name];
  const flag = optionFlag(name);
  if (option.type === 'secret') {
    return `### ${optionVariable(name)}

${option.description} Or name a file: \`--${optionFlag(option.fileOption)}\`. There is no flag and no key for it.

| environment | value | default |
|---|---|---|
| \`${optionVariable(name)}\` | ${optionRange(option)} | ${optionDefault(option)} |
`;
  }
  const defaultText = option.default === '' ? optionDefault(option) : `\`${optionDefault(option)}\``;
  return `### ${flag}

${option.description}

| flag | environment | file | value | default | example |
|---|---|---|---|---|---|
| \`--${flag}\` | \`${optionVariable(name)}\` | \`${optionKey(name)}\` | ${optionRange(option)} | ${defaultText} | \`--${flag} ${quoted(option.example)}\` |
`;
}

/** An example as one writes it in a shell. */
function quoted(text: string): string {
  return text.includes(';') ? `"${text}"` : text;
}
