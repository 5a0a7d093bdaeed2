// The text that a kernel's quality is measured on: sequences of tokens, and which of them count.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { OnelaunchError } from '../errors.ts';
import { readPlainText } from '../files/plain-file.ts';
import type { ChatTemplate } from '../runtime/chat/chat-template.ts';
import { checkShape, readJson } from '../runtime/json-file.ts';
import type { Tokenizer } from '../runtime/tokenizer/tokenizer.ts';

export interface TextSequence {
  readonly ids: readonly number[];
  /** The first token that counts, 1 or more: those before it are given. */
  readonly from: number;
}

export interface QualityText {
  readonly name: string;
  /** Where it comes from. */
  readonly source: string;
  readonly sequences: readonly TextSequence[];
}

const fileSchema = z.looseObject({
  source: z.string(),
  texts: z.record(
    z.string(),
    z.array(z.looseObject({ question: z.string(), answer: z.string().min(1) })).min(1),
  ),
});

/** Tokens of a sequence of a plain text: what the bundled model saw at once in training. */
const windowTokens = 256;
const mostBytes = 16_000_000;
const whatIsRead =
  'a text is a plain file, or JSON with source and texts, which are questions and answers by name';

/** What turns text into the tokens of a model. */
interface Reader {
  readonly tokenizer: Tokenizer;
  /** Asked for where there are questions and answers. */
  readonly template: () => ChatTemplate;
}

/** The file that lies beside the weights of a model that brings one. */
export function textBeside(directory: string): string | undefined {
  const path = join(directory, 'text.json');
  return existsSync(path) ? path : undefined;
}

/** The texts of a file: JSON of questions and answers by name, or one plain text. Each ends when so many tokens count.
 *  @throws OnelaunchError usage of a file that cannot be read, is of another shape or too short */
export function readTexts(path: string, reader: Reader, tokens: number): QualityText[] {
  if (!path.endsWith('.json')) {
    const text = readPlainText(path, mostBytes, whatIsRead);
    const ids = reader.tokenizer.encode(reader.tokenizer.plain(text));
    return [{ name: path, source: path, sequences: enough(windowsOf(ids), tokens, path) }];
  }
  const { source, texts } = checkShape(fileSchema, readJson(path, { hint: whatIsRead }), path, whatIsRead);
  const template = reader.template();
  return Object.entries(texts).map(([name, entries]) => ({
    ...{ name, source },
    sequences: enough(
      entries.map(({ question, answer }) => asked(reader.tokenizer, template, question, answer)),
      tokens,
      `${path}: ${name}`,
    ),
  }));
}

/** A question and its answer as the template writes them; what it opens the answer with is given, and so is the question. */
function asked(
  { plain, encode }: Tokenizer,
  template: ChatTemplate,
  question: string,
  answer: string,
): TextSequence {
  const user = { role: 'user', content: question };
  const given = encode(template([user], { plain }));
  const ids = encode(
    template([user, { role: 'assistant', content: answer }], { plain, addGenerationPrompt: false }),
  );
  const from = given.findIndex((id, i) => ids[i] !== id);
  return { ids, from: Math.max(1, from < 0 ? given.length : from) };
}

function windowsOf(ids: readonly number[]): TextSequence[] {
  const count = Math.ceil(ids.length / windowTokens);
  return Array.from({ length: count }, (_, i) => ({
    ids: ids.slice(i * windowTokens, (i + 1) * windowTokens),
    from: 1,
  }));
}

/** Tokens of a sequence that count. */
export const countedOf = ({ ids, from }: TextSequence): number => Math.max(0, ids.length - from);

/** The first sequences that have so many tokens that count together; the last one is cut. */
function enough(sequences: readonly TextSequence[], tokens: number, what: string): TextSequence[] {
  const taken: TextSequence[] = [];
  let left = tokens;
  for (const sequence of sequences) {
    const counted = countedOf(sequence);
    if (left <= 0) break;
    if (counted === 0) continue;
    const cut = Math.max(0, counted - left);
    taken.push({ ...sequence, ids: sequence.ids.slice(0, sequence.ids.length - cut) });
    left -= counted - cut;
  }
  if (left <= 0) return taken;
  throw new OnelaunchError(
    'usage',
    `${what} has ${tokens - left} tokens that count, ${tokens} are asked for`,
    {
      hint: left < tokens ? `--tokens ${tokens - left}` : 'give a longer text',
    },
  );
}
