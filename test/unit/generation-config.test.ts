// What a model samples with when nobody says otherwise.
import { describe, expect, test } from 'vitest';
import { readGenerationConfig } from '../../runtime/generation-config.ts';
import { checkOptions } from '../../runtime/sampling.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { llama2, makeDirectory, tinyDirectory } from '../support/model-directory.ts';

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
      chatStopIds: [151645, 151643],
      stop: [],
      maxTokens: null,
      maxLength: null,
      notes: [],
    });
  });

  test('without do_sample a model is greedy, whatever its temperature', () => {
    expect(read({ 'generation_config.json': { temperature: 0.6 } })).toMatchObject({
      doSample: false,
      temperature: 0,
    });
    expect(read({})).toMatchObject({ doSample: false, temperature: 0, topK: 50, topP: 1, stopIds: [] });
  });

  test('bounds of sampling beyond those of a reply are the nearest that it has', () => {
    const sampled = (file: object) => {
      const defaults = read({ 'generation_config.json': { do_sample: true, ...file } });
      return checkOptions({}, defaults, 16).sampling;
    };
    for (const top_k of [2 ** 31, 2 ** 32, 1e15]) expect(sampled({ top_k }).top_k).toBe(2 ** 31 - 1);
    // As in transformers: the most likely token alone.
    const { top_p } = sampled({ top_p: 0 });
    expect({ isPositive: Math.fround(top_p) > 0, isLeast: top_p < 1e-30 }).toEqual({
      isPositive: true,
      isLeast: true,
    });
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

  /** With the tokenizer's </s>, which is token 1. */
  const eosFiles = { 'tokenizer_config.json': { eos_token: '</s>' }, 'tokenizer.json': llama2 };

  test('a chat stops at the tokens of generation_config and at the eos token of the tokenizer, and a line says so', () => {
    const both = read({ ...eosFiles, 'generation_config.json': { eos_token_id: 4 } });
    expect(both).toMatchObject({ stopIds: [4], chatStopIds: [4, 1] });
    expect(both.notes).toEqual([expect.stringContaining('a chat ends at either')]);
    const agree = read({ ...eosFiles, 'generation_config.json': { eos_token_id: [4, 1] } });
    expect(agree).toMatchObject({ stopIds: [4, 1], chatStopIds: [4, 1], notes: [] });
  });

  test('the eos token is taken from special_tokens_map.json where tokenizer_config.json names none', () => {
    const map = { 'special_tokens_map.json': { eos_token: { content: '</s>' } }, 'tokenizer.json': llama2 };
    expect(read(map).stopIds).toEqual([1]);
    expect(read({ ...map, 'tokenizer_config.json': { eos_token: '▁hello' } }).stopIds).toEqual([2]);
  });

  test('an eos that the model cannot make is ignored, and a line names the file', () => {
    const directory = makeDirectory({
      ...eosFiles,
      'config.json': { eos_token_id: [5, 99] },
      'generation_config.json': { eos_token_id: [512, -1] },
    });
    const { stopIds, notes } = readGenerationConfig(directory, { vocab: 50 });
    expect(stopIds).toEqual([5]);
    expect(notes.slice(0, 3).map((note) => note.replace(directory, 'DIR'))).toEqual([
      'DIR/generation_config.json: eos_token_id 512 is ignored: the model has tokens 0 to 49',
      'DIR/generation_config.json: eos_token_id -1 is ignored: the model has tokens 0 to 49',
      'DIR/config.json: eos_token_id 99 is ignored: the model has tokens 0 to 49',
    ]);
  });

  test.each([
    [
      { top_k: -1, do_sample: false },
      { topK: 0, notes: [] },
    ],
    [{ max_new_tokens: 7 }, { maxTokens: 7, maxLength: null, notes: [] }],
    [{ max_length: 9 }, { maxTokens: null, maxLength: 9, notes: [] }],
    [{ stop_strings: 'a' }, { stop: ['a'], notes: [] }],
    [{ stop_strings: ['a', 'b'] }, { stop: ['a', 'b'], notes: [] }],
    [
      { stop_strings: null, max_new_tokens: null },
      { stop: [], maxTokens: null, notes: [] },
    ],
    [{ num_beams: 1, bad_words_ids: [] }, { notes: [] }],
  ])('%j gives %j', (file, defaults) => {
    expect(read({ 'generation_config.json': file })).toMatchObject(defaults);
  });

  test.each([
    [{ max_new_tokens: 7, max_length: 9 }, 'max_new_tokens is 7 and max_length is 9: max_new_tokens counts'],
    [{ max_new_tokens: -1 }, 'max_new_tokens is -1, which is no limit, and is ignored'],
    [{ stop_strings: ['', 'a'] }, 'an empty text in stop_strings is ignored'],
    [{ num_beams: 4 }, 'num_beams is 4, which is not applied'],
    [{ suppress_tokens: [1, 2] }, 'suppress_tokens is [1,2], which is not applied'],
  ])('%j is not dropped without a word', (file, note) => {
    const { notes } = read({ 'generation_config.json': file });
    expect(notes).toEqual([expect.stringContaining(note)]);
    expect(notes[0]).toContain('/generation_config.json: ');
  });

  test('stop_strings that are special tokens are stop ids, and those that hold one are named', () => {
    const tokenizer = loadTokenizer(tinyDirectory);
    const directory = makeDirectory({
      'generation_config.json': { eos_token_id: 7, stop_strings: ['<|im_end|>', 'x<|im_end|>', 'y'] },
    });
    const { stop, stopIds, chatStopIds, notes } = readGenerationConfig(directory, { tokenizer });
    expect({ stop, stopIds, chatStopIds }).toEqual({ stop: ['y'], stopIds: [7, 2], chatStopIds: [7, 2] });
    expect(notes).toEqual([expect.stringContaining('"x<|im_end|>" of stop_strings is ignored')]);
  });

  test('without generation_config.json the keys of config.json count', () => {
    const files = { 'config.json': { do_sample: true, temperature: 0.7, max_new_tokens: 5 } };
    expect(read(files)).toMatchObject({ doSample: true, temperature: 0.7, maxTokens: 5 });
    expect(read({ ...files, 'generation_config.json': {} })).toMatchObject({
      doSample: false,
      maxTokens: null,
    });
  });
});
