// The commands that README.md, ARCHITECTURE.md and the documents of the folders tell a reader to type: the lines of their
// blocks of shell, and the commands in running text. Only reads the files; for the tests of this folder.

import { readdirSync, readFileSync } from 'node:fs';
import { marked } from 'marked';

/** Every document that is for users. CHANGELOG.md tells of the past. */
export const documents: readonly string[] = [
  'README.md',
  'ARCHITECTURE.md',
  ...readdirSync('docs')
    .filter((name) => name.endsWith('.md'))
    .sort()
    .map((name) => `docs/${name}`),
  'k6/README.md',
  'bench/README.md',
];

export interface Command {
  readonly file: string;
  /** Of the document, from 1. */
  readonly line: number;
  /** As it is written, but on one line and without its comment. */
  readonly text: string;
  /** The lines of the same block before it that change what it does: variables and cd. */
  readonly before: readonly string[];
  /** Stands in running text. */
  readonly isInline: boolean;
}

/** One that no document has. */
export const commandLine = (text: string): Command => ({
  file: '',
  line: 0,
  text,
  before: [],
  isInline: false,
});

export interface Block {
  readonly file: string;
  readonly line: number;
  /** After the fence; empty if nothing is there. */
  readonly language: string;
  readonly text: string;
}

/** What a command in running text, or a forgotten one in a block of another language, begins with. */
const firstWords =
  /^(?:(?:ess|node|npm|npx|curl|docker|kafka-[a-z-]+\.sh|go|k6|systemctl|journalctl|\.cache\/\S+|export) \S|(?:cp|df|du|install|tar|useradd) \S+ \S)/;

export const looksLikeCommand = (text: string): boolean => firstWords.test(text);

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}

/** The lines of a block of shell, continuations joined, with the number of each in its document. */
function readLines({ text, line }: Block): { readonly text: string; readonly line: number }[] {
  const found: { text: string; line: number }[] = [];
  let isContinued = false;
  for (const [index, raw] of text.split('\n').entries()) {
    const part = raw.replace(/(^|\s)#.*$/, '').trim();
    const last = found.at(-1);
    if (isContinued && last !== undefined) last.text = `${last.text} ${part}`;
    else if (part !== '') found.push({ text: part, line: line + 1 + index });
    isContinued = part.endsWith('\\');
    const now = found.at(-1);
    if (isContinued && now !== undefined) now.text = now.text.slice(0, -1).trim();
  }
  return found;
}

interface Contents {
  readonly blocks: readonly Block[];
  readonly inline: readonly Command[];
}

function read(file: string): Contents {
  const text = readFileSync(file, 'utf8');
  const blocks: Block[] = [];
  const inline: Command[] = [];
  let at = 0;
  marked.walkTokens(marked.lexer(text), (token) => {
    if (token.type !== 'code' && token.type !== 'codespan') return;
    const index = text.indexOf(token.raw, at);
    // Cells of a table are read twice, and out of their order.
    const line = lineOf(text, index < 0 ? at : index);
    if (index >= 0) at = index;
    if (token.type === 'code') {
      blocks.push({ file, line, language: String(token['lang'] ?? ''), text: String(token['text']) });
      return;
    }
    const span = String(token['text']).replace(/\s+/g, ' ');
    if (looksLikeCommand(span)) inline.push({ file, line, text: span, before: [], isInline: true });
  });
  return { blocks, inline };
}

const contents = documents.map(read);

/** Every block of code. */
export const blocks: readonly Block[] = contents.flatMap((each) => each.blocks);

/** Every command: those of the blocks in the order of the documents, then those in running text. */
export const commands: readonly Command[] = [
  ...blocks
    .filter(({ language }) => language === 'sh')
    .flatMap((block) => {
      const before: string[] = [];
      return readLines(block).map(({ text, line }) => {
        const command = { file: block.file, line, text, before: [...before], isInline: false };
        if (/^(export |cd |\w+=)/.test(text)) before.push(text);
        return command;
      });
    }),
  ...contents.flatMap((each) => each.inline),
];
