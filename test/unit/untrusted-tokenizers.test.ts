// tokenizer.json comes with models of others, and its steps are small programs: none may hang or take the memory. Those that
// the library reads otherwise than transformers does are mended.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { knownPatterns } from '../../gguf/pre-tokenizers.ts';
import { readTokenizerFile } from '../../runtime/tokenizer/file.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { llama2, makeDirectory, tinyDirectory } from '../support/model-directory.ts';
import { refusalOf } from '../support/refusal.ts';

const load = (change: object) => loadTokenizer(makeDirectory({ 'tokenizer.json': { ...llama2, ...change } }));
const sequence = (key: string, step: object, count: number) => ({
  type: 'Sequence',
  [key]: Array(count).fill(step),
});
const double = { type: 'Replace', pattern: { String: 'a' }, content: 'aa' };
const withVocab = (vocab: object) => ({
  model: { ...llama2.model, vocab: { ...llama2.model.vocab, ...vocab } },
});
const longer = (key: string) => `the steps of ${key} make a text more than 64 times as long`;

const hostile: [what: string, change: object, why: string][] = [
  [
    'an id of a billion',
    withVocab({ x: 1e9 }),
    'the token "x" has id 1000000000, in a vocabulary of 10 tokens',
  ],
  ['half an id', withVocab({ x: 1.5 }), 'the token "x" has id 1.5, in a vocabulary of 10 tokens'],
  ['an id in words', withVocab({ x: '7' }), 'the token "x" has id "7", in a vocabulary of 10 tokens'],
  [
    'an added token of id four billion',
    { added_tokens: [{ id: 4_294_967_294, content: '</s>', special: true }] },
    'the token "</s>" has id 4294967294, in a vocabulary of 9 tokens',
  ],
  ['normalizers that double', { normalizer: sequence('normalizers', double, 40) }, longer('normalizer')],
  [
    'normalizers that double in sequences of sequences',
    { normalizer: sequence('normalizers', sequence('normalizers', double, 5), 5) },
    longer('normalizer'),
  ],
  [
    'a normalizer that puts a text between all letters',
    { normalizer: { type: 'Replace', pattern: { Regex: '' }, content: 'x'.repeat(1_000_000) } },
    longer('normalizer'),
  ],
  [
    'pre-tokenizers that double',
    { pre_tokenizer: sequence('pretokenizers', double, 40) },
    longer('pre_tokenizer'),
  ],
  [
    'bytes of bytes of bytes',
    { pre_tokenizer: sequence('pretokenizers', { type: 'ByteLevel' }, 30) },
    longer('pre_tokenizer'),
  ],
  [
    'pieces of no length',
    { pre_tokenizer: { type: 'FixedLength', length: 0 } },
    'a step of pre_tokenizer cuts pieces of length 0',
  ],
  [
    'pieces of less than no length',
    { pre_tokenizer: sequence('pretokenizers', { type: 'FixedLength', length: -1 }, 1) },
    'a step of pre_tokenizer cuts pieces of length -1',
  ],
  [
    'post-processors that double',
    {
      post_processor: sequence(
        'processors',
        { type: 'TemplateProcessing', single: Array(2).fill({ Sequence: { id: 'A', type_id: 0 } }) },
        40,
      ),
    },
    longer('post_processor'),
  ],
  ['decoders that double', { decoder: sequence('decoders', double, 40) }, longer('decoder')],
];

test.each(hostile)('%s is refused before anything is built', (_, change, why) => {
  const { message, kind } = refusalOf(() => load(change));
  expect(message).toMatch(/^\/.*\/tokenizer\.json: /);
  expect(message.slice(message.indexOf(': ') + 2)).toBe(why);
  expect(kind).toBe('usage');
});

test('a pattern that does not end is ended, and names the file', () => {
  const split = { type: 'Split', pattern: { Regex: '^(a+)+$' }, behavior: 'Isolated', invert: false };
  const tokenizer = load({ pre_tokenizer: split });
  const { message, hint } = refusalOf(() => tokenizer.encode(`${'a'.repeat(40)}b`));
  expect(message).toMatch(/\/tokenizer\.json took more than 2 s for a text of 41 characters$/);
  expect(hint).toContain('Its steps may be to blame');
});

describe('the time of a short text is known', () => {
  const words = {
    type: 'Split',
    pattern: { Regex: [...knownPatterns][0] },
    behavior: 'Isolated',
    invert: false,
  };
  const tiny = JSON.parse(readFileSync(join(tinyDirectory, 'tokenizer.json'), 'utf8')) as object;
  const isKnown = (change: object) =>
    readTokenizerFile(join(makeDirectory({ 'tokenizer.json': { ...tiny, ...change } }), 'tokenizer.json'))
      .encodesAsKnown;

  test('where the steps are those of known models', () => {
    expect(isKnown({})).toBe(true);
    expect(
      isKnown({ pre_tokenizer: { type: 'Sequence', pretokenizers: [words, { type: 'ByteLevel' }] } }),
    ).toBe(true);
    expect(isKnown({ pre_tokenizer: { type: 'Digits', individual_digits: true } })).toBe(true);
  });

  test.each<[string, object]>([
    ['of another pattern', { pre_tokenizer: { ...words, pattern: { Regex: '^(a+)+$' } } }],
    [
      'of a pattern in a sequence',
      { pre_tokenizer: sequence('pretokenizers', { ...words, pattern: { Regex: 'a' } }, 1) },
    ],
    ['of a known pattern in another way', { pre_tokenizer: { ...words, behavior: 'MergedWithPrevious' } }],
    ['of all but a known pattern', { pre_tokenizer: { ...words, invert: true } }],
    ['of a text', { pre_tokenizer: { ...words, pattern: { String: 'a' } } }],
    ['that replaces', { normalizer: { type: 'Replace', pattern: { Regex: 'a' }, content: 'b' } }],
    ['that nobody knows', { post_processor: { type: 'Another' } }],
  ])('and not with a step %s', (_, change) => {
    expect(isKnown(change)).toBe(false);
  });
});

test('a text that has no tokens, and no token for the unknown, is refused by the name of the file', () => {
  const model = { type: 'WordPiece', vocab: { a: 0 }, continuing_subword_prefix: '##' };
  const { message } = refusalOf(() => load({ model, added_tokens: [] }).encode('z'));
  expect(message).toMatch(/\/tokenizer\.json has no token for a part of the text, and none for the unknown$/);
});

test('a step that fails on a text names the file, not the line of a library', () => {
  const tokenizer = load({ post_processor: { type: 'TemplateProcessing', single: [null] } });
  const { message } = refusalOf(() => tokenizer.encode('a'));
  expect(message).toMatch(
    /\/tokenizer\.json cannot be used for a text of 1 characters: Cannot use 'in' operator/,
  );
});

test('ids with room between them are those of a real vocabulary', () => {
  expect(load({ added_tokens: [{ id: 1000, content: '</s>', special: true }] }).size).toBe(1001);
});

/** Over the bundled model's vocabulary with more merges, which show where a word begins. Source: tokenizers 0.23.2. */
const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
const split = (behavior: string, pattern: object) => ({ type: 'Split', pattern, behavior, invert: false });
const dot = { String: '.' };
const ids: [step: object, text: string, ids: number[]][] = [
  [
    { type: 'Digits', individual_digits: true },
    '1 ½ a ²²',
    [19, 223, 129, 124, 267, 223, 129, 113, 129, 113],
  ],
  [
    { type: 'Digits', individual_digits: false },
    '1 ½ a ²²',
    [19, 223, 129, 124, 267, 223, 129, 113, 129, 113],
  ],
  [{ type: 'Whitespace' }, 'émi émi', [4100, 75, 4100, 75]],
  [
    { type: 'Punctuation', behavior: 'Isolated' },
    'oh!! ... «no»',
    [2477, 3, 3, 223, 16, 16, 16, 223, 129, 107, 2583, 129, 122],
  ],
  [
    { type: 'Punctuation', behavior: 'Contiguous' },
    'oh!! ... «no»',
    [2477, 3, 3, 223, 3152, 223, 129, 107, 2583, 129, 122],
  ],
  [split('Isolated', dot), 'the... end. of', [1098, 16, 16, 16, 976, 16, 298]],
  [split('Contiguous', dot), 'the... end. of', [1098, 3152, 976, 16, 298]],
  [split('Removed', dot), 'the... end. of', [1098, 976, 298]],
  [split('MergedWithPrevious', { Regex: '[aeo ]' }), 'a good one', [67, 223, 2440, 81, 70, 223, 81, 806]],
  [split('MergedWithNext', { Regex: '[aeo ]' }), 'a good one', [67, 346, 81, 386, 223, 283, 71]],
];

describe('pre-tokenizers cut as those of transformers do:', () => {
  const { model, ...rest } = JSON.parse(readFileSync(join(tinyDirectory, 'tokenizer.json'), 'utf8'));
  const merges = ['Ġ Â', 'ĠÂ ½', 'ĠÂ ²', 'Ã ©', 'Ã© m'].map((merge) => merge.split(' '));
  const vocab = Object.fromEntries(merges.map((merge, at) => [merge.join(''), 4096 + at]));
  const file = {
    ...rest,
    model: { ...model, vocab: { ...model.vocab, ...vocab }, merges: [...merges, ...model.merges] },
  };
  test.each(ids)('%j on %j', (step, text, expected) => {
    const pre_tokenizer = { type: 'Sequence', pretokenizers: [step, level] };
    const directory = makeDirectory({ 'tokenizer.json': { ...file, normalizer: null, pre_tokenizer } });
    expect(loadTokenizer(directory).encode(text)).toEqual(expected);
  });
});

/** 4096 is the single word, 4097 another token. Source: tokenizers 0.23.2. */
const alone: [normalizer: object | null, text: string, ids: number[]][] = [
  [null, 'a cat.', [67, 223, 4096, 16]],
  [null, 'cat-cat', [4096, 15, 4096]],
  [null, 'cats', [69, 2365]],
  [null, 'concat', [788, 69, 281]],
  [null, '_cat', [65, 69, 281]],
  [null, 'cat1', [69, 281, 19]],
  [null, 'cat\u0301', [69, 281, 139, 226]],
  [null, 'écat', [130, 105, 69, 281]],
  [null, 'dogcat dog', [4097, 69, 281, 223, 4097]],
  [null, 'cat<|im_end|>', [4096, 2]],
  [{ type: 'Lowercase' }, 'a Cat', [67, 223, 4096]],
  [{ type: 'Lowercase' }, 'cats', [69, 2365]],
  [{ type: 'Lowercase' }, 'dogcat', [4097, 4096]],
];

test.each(alone)('an added token that stands alone is none in a word: %j, %j', (normalizer, text, ids) => {
  const file = JSON.parse(readFileSync(join(tinyDirectory, 'tokenizer.json'), 'utf8'));
  const token = { lstrip: false, rstrip: false, special: false };
  const added_tokens = [
    ...file.added_tokens,
    { ...token, id: 4096, content: 'cat', single_word: true, normalized: normalizer !== null },
    { ...token, id: 4097, content: 'dog', single_word: false, normalized: false },
  ];
  const changed = { ...file, added_tokens, ...(normalizer && { normalizer }) };
  expect(loadTokenizer(makeDirectory({ 'tokenizer.json': changed })).encode(text)).toEqual(ids);
});

describe('a merge is refused, as tokenizers does,', () => {
  const why = (merges: unknown) =>
    refusalOf(() =>
      load({ model: { ...llama2.model, vocab: { ...llama2.model.vocab, a: 8, b: 9 }, merges } }),
    ).message.replace(/^.*\/tokenizer\.json: /, '');

  test.each<[what: string, merges: unknown, why: string]>([
    [
      'of a part that is no token',
      [['a', 'c']],
      'model.merges[0] is ["a","c"], and the vocabulary has no token "c"',
    ],
    ['of tokens that make none', ['a b'], 'model.merges[0] is "a b", and the vocabulary has no token "ab"'],
    ['of three parts', [['a', 'b', 'a']], 'model.merges[0] is ["a","b","a"], not a pair of tokens'],
    ['of three words', ['a b a'], 'model.merges[0] is "a b a", not two tokens with a space between'],
    ['that is a number', [7], 'model.merges[0] is 7, not a pair of tokens'],
    ['in no list', undefined, 'model.merges is no list'],
  ])('%s', (_, merges, expected) => {
    expect(why(merges)).toBe(expected);
  });
});
