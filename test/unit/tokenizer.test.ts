// Texts into tokens and back, also piece by piece.
import { describe, expect, test } from 'vitest';
import { loadTokenizer, type Tokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { llama2, makeDirectory, makeQwenDirectory, tinyDirectory } from '../support/model-directory.ts';

const tiny = loadTokenizer(tinyDirectory);

const qwen = loadTokenizer(makeQwenDirectory());

function streamed(tokenizer: Tokenizer, ids: readonly number[]): string[] {
  const stream = tokenizer.stream();
  return [...ids.map((id) => stream.push(id)), stream.end()];
}

describe('tokenizer', () => {
  test('Qwen3 encodes the known vector', () => {
    expect(qwen.encode('Hello, 世界! <|im_start|>')).toEqual([9707, 11, 220, 99489, 0, 220, 151644]);
  });

  test('size is the highest id + 1, not the rows of the LM head', () => {
    expect([qwen.size, tiny.size]).toEqual([151669, 4096]);
  });

  test('tokens that tokenizer_config.json names are special, <think> is not', () => {
    expect([...tiny.specialIds]).toEqual([0, 1, 2]);
    expect(qwen.specialIds.has(qwen.idOf('<|im_end|>')!)).toBe(true);
    expect(qwen.specialIds.has(qwen.idOf('<think>')!)).toBe(false);
  });

  test('the bytes of tokens joined are the text, in UTF-8; those of a special token are how it is spelled', () => {
    const text = 'Hello, 世界! 👩‍🚀 naïve';
    expect(Buffer.concat(qwen.encode(text).map((id) => qwen.bytes(id))).toString()).toBe(text);
    expect(Buffer.from(qwen.bytes(qwen.idOf('<|im_end|>')!)).toString()).toBe('<|im_end|>');
    expect(qwen.bytes(qwen.size)).toHaveLength(0);
    const llama = loadTokenizer(makeDirectory({ 'tokenizer.json': llama2 }));
    expect([2, 4, 1].map((id) => Buffer.from(llama.bytes(id)).toString('latin1'))).toEqual([
      ' hello',
      '\xe4',
      '</s>',
    ]);
  });

  test('special tokens are not printed, other added tokens are', () => {
    const ids = qwen.encode('<|im_start|><think>\nhm</think><|im_end|>');
    expect(qwen.decode(ids)).toBe('<think>\nhm</think>');
    expect(streamed(qwen, ids).join('')).toBe('<think>\nhm</think>');
  });

  test('an added token is printed as it is spelled, spaces and all', () => {
    const added_tokens = [{ id: 8, content: '<｜in Ġ｜>', special: false, normalized: false }];
    const decoder = { type: 'ByteLevel' };
    const tokenizer = loadTokenizer(
      makeDirectory({ 'tokenizer.json': { ...llama2, added_tokens, decoder } }),
    );
    expect(streamed(tokenizer, [8]).join('')).toBe('<｜in Ġ｜>');
    expect(tokenizer.decode([8])).toBe('<｜in Ġ｜>');
  });

  test('nothing encodes to nothing and decodes to nothing', () => {
    expect([tiny.encode(''), tiny.decode([]), tiny.decode([2])]).toEqual([[], '', '']);
  });

  test('ids without a token are skipped', () => {
    const [a, b] = qwen.encode('Hello,');
    expect(qwen.decode([a!, 151_900, b!])).toBe('Hello,');
    expect(streamed(qwen, [a!, 151_900, b!]).join('')).toBe('Hello,');
  });

  test('special tokens around a text are added only when asked for', () => {
    const bos = { SpecialToken: { id: '</s>', type_id: 0 } };
    const post_processor = {
      type: 'TemplateProcessing',
      single: [bos, { Sequence: { id: 'A', type_id: 0 } }],
      special_tokens: { '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] } },
    };
    const tokenizer = loadTokenizer(makeDirectory({ 'tokenizer.json': { ...llama2, post_processor } }));
    expect(tokenizer.encode('▁')).toEqual([3]);
    expect(tokenizer.encode('▁', { addSpecialTokens: true })).toEqual([1, 3]);
  });
});

describe('stream', () => {
  const texts = [
    'family 👩‍👩‍👧‍👦 flag 🇫🇷 skin 👍🏽',
    'नमस्ते क्षत्रिय',
    '𝕏 ሰላም 🜁\u0000\ufeff',
    'caf\u00e9 s\u00ed na\u00efve \u4e16\u754c "don\'t" .  , \r\n\t',
    '<think>\u4e16</think>',
    '\ufeffbyte order mark',
  ];

  test.each(texts)('the pieces of %j are the whole text', (text) => {
    for (const tokenizer of [qwen, tiny]) {
      const ids = tokenizer.encode(text);
      expect(streamed(tokenizer, ids).join('')).toBe(text);
      expect(tokenizer.decode(ids)).toBe(text);
    }
  });

  test('no piece holds part of a character', () => {
    const ids = tiny.encode('世界👩‍👩‍👧');
    expect(ids.length).toBeGreaterThan(10);
    for (const piece of streamed(tiny, ids)) expect(piece).not.toContain('\ufffd');
  });

  test('a character cut off by the end, or by another, becomes U+FFFD as in decode', () => {
    const [first, second] = tiny.encode('世');
    const [letter] = tiny.encode('a');
    expect(streamed(tiny, [first!, second!])).toEqual(['', '', '\ufffd']);
    const cut = [first!, letter!];
    expect(streamed(tiny, cut).join('')).toBe(tiny.decode(cut));
  });

  test('a special token inside a character does not break it', () => {
    const [first, ...rest] = tiny.encode('世');
    expect(streamed(tiny, [first!, 2, ...rest]).join('')).toBe('世');
  });

  test('two streams of one tokenizer do not mix', () => {
    const ids = tiny.encode('世');
    const [one, two] = [tiny.stream(), tiny.stream()];
    one.push(ids[0]!);
    expect(two.push(tiny.encode('a')[0]!)).toBe('a');
  });

  test('a Llama 2 decoder keeps the spaces between words and drops the first', () => {
    const tokenizer = loadTokenizer(makeDirectory({ 'tokenizer.json': llama2 }));
    const ids = [2, 7, 1, 7, 3, 3, 2, 4, 5, 6, 7];
    expect(streamed(tokenizer, ids)).toEqual([
      'hello',
      ' world',
      '',
      ' world',
      ' ',
      ' ',
      ' hello',
      '',
      '',
      '世',
      ' world',
      '',
    ]);
    expect(tokenizer.decode(ids)).toBe('hello world world   hello世 world');
    expect(streamed(tokenizer, [3, 2, 4]).join('')).toBe(tokenizer.decode([3, 2, 4]));
  });
});
