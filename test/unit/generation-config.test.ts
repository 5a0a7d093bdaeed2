// What a model samples with when nobody says otherwise.
import { describe, expect, test } from 'vitest';
import { readGenerationConfig } from '../../runtime/generation-config.ts';
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
