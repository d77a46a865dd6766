// Files that options name: passwords and PEM texts. Read once, at start, on the main thread; what they hold never
// gets into a message.

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { EssError } from '../errors.ts';
import { type Config, optionFlag, options, optionVariable } from './options.ts';

type SecretName = {
  [N in keyof typeof options]: (typeof options)[N]['type'] extends 'secret' ? N : never;
}[keyof typeof options];
type FileName = Extract<keyof Config, `${string}File`>;

/** The secret, from the environment or the first line of its file; empty if neither was given. */
export function secretOf(config: Config, name: SecretName): string {
  const { fileOption } = options[name];
  const given = config[name];
  if (config[fileOption] === '') return given;
  // Whichever won, somebody would look for the reason of a refused login in the other.
  if (given !== '') throw refused(fileOption, `${optionVariable(name)} is set too: one of them must go`);
  const [line = ''] = textOf(config, fileOption).split(/\r?\n/, 1);
  if (line === '') throw refused(fileOption, `the first line of ${config[fileOption]} is empty`);
  return line;
}

/** Text of a PEM file with at least one certificate; empty if the option is not set. */
export function certificateOf(config: Config, name: FileName): string {
  return pemOf(config, name, (text) => new X509Certificate(text));
}

/** Text of a PEM file with a private key that needs no passphrase; empty if the option is not set. */
export function privateKeyOf(config: Config, name: FileName): string {
  return pemOf(config, name, createPrivateKey);
}

/** Refuses a certificate and a private key that do not belong together. */
export function checkPair(certificate: string, key: string, keyName: FileName): void {
  if (!new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key))) {
    throw refused(keyName, 'it is not the private key of the certificate');
  }
}

function pemOf(config: Config, name: FileName, parse: (text: string) => unknown): string {
  if (config[name] === '') return '';
  const text = textOf(config, name);
  try {
    parse(text);
  } catch (cause) {
    throw refused(name, `${config[name]} cannot be used: ${reasonOf(cause)}`, cause);
  }
  return text;
}

function textOf(config: Config, name: FileName): string {
  try {
    return readFileSync(config[name], 'utf8').replace(/^\uFEFF/, '');
  } catch (cause) {
    throw refused(name, `cannot read ${config[name]}: ${reasonOf(cause)}`, cause);
  }
}

function refused(name: FileName, detail: string, cause?: unknown): EssError {
  return new EssError('bad_option', `--${optionFlag(name)}: ${detail}`, { cause });
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
