// Files of a model that cannot be used are refused, with the place and what would be legal.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readModelDims } from '../../codegen/model/read-config.ts';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { readGenerationConfig } from '../../runtime/generation-config.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { llama2, makeDirectory, tinyDirectory } from '../support/model-directory.ts';
import { refusalOf } from '../support/refusal.ts';

test('the hint tells a sentencepiece model from nothing at all', () => {
  const hints = [{}, { 'tokenizer.model': '' }].map(
    (files) => refusalOf(() => loadTokenizer(makeDirectory(files))).hint,
  );
  expect(hints).toEqual([
    "Copy tokenizer.json and tokenizer_config.json from the model's own repository.",
    'Only tokenizer.model is here: in Python, AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes tokenizer.json.',
  ]);
});

test('text that an editor saved with a byte order mark, or in UTF-16, is told how to be saved', () => {
  const config = readFileSync(join(tinyDirectory, 'config.json'), 'utf8');
  for (const bytes of [Buffer.from(`\ufeff${config}`), Buffer.from(`\ufeff${config}`, 'utf16le')]) {
    const directory = makeDirectory({});
    writeFileSync(join(directory, 'config.json'), bytes);
    writeFileSync(join(directory, 'tokenizer.json'), bytes);
    for (const read of [readModelDims, loadTokenizer]) {
      const { kind, hint } = refusalOf(() => read(directory));
      expect({ kind, hint }).toEqual({
        kind: 'usage',
        hint: expect.stringContaining('save it as UTF-8 without a mark'),
      });
    }
  }
});

/** As an editor saves it in the encoding of Western Europe. */
const latin1 = (json: string) => Buffer.from(json, 'latin1');
const header = latin1('{"caf\u00e9.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}');
const shards = (name: string) => latin1(JSON.stringify({ weight_map: { [name]: 'one.safetensors' } }));

test.each<[file: string, bytes: Buffer, read: (directory: string) => unknown]>([
  ['config.json', latin1('{"model_type":"qwen3","note":"caf\u00e9"}'), readModelDims],
  ['generation_config.json', latin1('{"stop_strings":["caf\u00e9"]}'), readGenerationConfig],
  ['tokenizer_config.json', latin1('{"chat_template":"caf\u00e9"}'), chatTemplate],
  ['special_tokens_map.json', latin1('{"eos_token":"caf\u00e9"}'), chatTemplate],
  ['chat_template.jinja', latin1('caf\u00e9 {{ messages[0].content }}'), chatTemplate],
  ['chat_template.jinja', Buffer.from('\ufeff{{ messages[0].content }}', 'utf16le'), chatTemplate],
  ['tokenizer.json', latin1(JSON.stringify(llama2).replace('hello', 'h\u00e9llo')), loadTokenizer],
  ['model.safetensors.index.json', shards('caf\u00e9.weight'), readTensors],
  ['model.safetensors', Buffer.concat([Buffer.of(header.length, 0, 0, 0, 0, 0, 0, 0), header]), readTensors],
])('%s in another encoding is refused, not read with U+FFFD in the place of letters', (file, bytes, read) => {
  const directory = makeDirectory({});
  writeFileSync(join(directory, file), bytes);
  const { kind, message, hint } = refusalOf(() => read(directory));
  expect(message).toMatch(/ (is not|has a header that is no) text in UTF-8$/);
  expect(message).toContain(join(directory, file));
  expect({ kind, hint: typeof hint }).toEqual({ kind: 'usage', hint: 'string' });
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
    'DIR/tokenizer.json:1:1: not valid JSON, unexpected "v"',
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
    'DIR/tokenizer.json: added_tokens[0].id is -1, expected at least 0',
  ],
  [
    'a broken tokenizer config',
    { ...withTokenizer({}), 'tokenizer_config.json': '{' },
    loadTokenizer,
    'DIR/tokenizer_config.json:1:2: not valid JSON, the file ends too early',
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
    'the chat template in DIR/chat_template.jinja cannot be read: Unexpected token: CloseStatement',
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
    'DIR/generation_config.json: temperature is -1, expected at least 0',
  ],
  [
    'a top_p of 1.5',
    { 'generation_config.json': { top_p: 1.5 } },
    readGenerationConfig,
    'DIR/generation_config.json: top_p is 1.5, expected at most 1',
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
