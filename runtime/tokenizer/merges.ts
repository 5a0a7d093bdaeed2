// The merges of a BPE vocabulary, which @huggingface/tokenizers 0.2.0 takes as they are: one that leads to no token makes a text unknown.
import { OnelaunchError } from '../../errors.ts';

interface Model {
  readonly vocab: object;
  readonly merges?: unknown;
  readonly continuing_subword_prefix?: unknown;
}

/** Source: BpeBuilder::build and MergeType of tokenizers.
 *  @throws OnelaunchError of kind usage: a merge that is no pair, or of which the parts or the whole are no tokens */
export function checkMerges({ vocab, merges, continuing_subword_prefix: prefix }: Model, path: string): void {
  const refuse = (what: string) =>
    new OnelaunchError('usage', `${path}: model.merges${what}`, {
      hint: "Compare with the file in the model's own repository.",
    });
  if (!Array.isArray(merges)) throw refuse(' is no list');
  const areTexts = typeof merges[0] === 'string';
  // Of a token that goes on with a word, which the merge spells again.
  const prefixed = typeof prefix === 'string' ? prefix.length : 0;
  for (const [at, merge] of merges.entries()) {
    // The first line of merges.txt.
    if (areTexts && String(merge).startsWith('#version')) continue;
    const pair = areTexts && typeof merge === 'string' ? merge.split(' ') : merge;
    if (!isPair(pair) || areTexts !== (typeof merge === 'string')) {
      throw refuse(
        `[${at}] is ${shown(merge)}, ${areTexts ? 'not two tokens with a space between' : 'not a pair of tokens'}`,
      );
    }
    const [first, second] = pair;
    const missing = [first, second, first + second.slice(prefixed)].find(
      (token) => !Object.hasOwn(vocab, token),
    );
    if (missing === undefined) continue;
    throw refuse(`[${at}] is ${shown(merge)}, and the vocabulary has no token ${shown(missing)}`);
  }
}

const isPair = (merge: unknown): merge is readonly [string, string] =>
  Array.isArray(merge) && merge.length === 2 && merge.every((part) => typeof part === 'string');

const shown = (value: unknown): string => String(JSON.stringify(value)).slice(0, 60);
