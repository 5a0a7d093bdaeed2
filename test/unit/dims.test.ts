import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkDims } from '../../codegen/model/check-dims.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { parseDims } from '../../codegen/model/parse-dims.ts';
import { modelName, readModelDims } from '../../codegen/model/read-config.ts';
import { attentionScale, inverseFrequencies, rotatedSize } from '../../codegen/model/rope.ts';
import { settleContext } from '../../codegen/settle-context.ts';
import { models } from '../../configs/models.ts';
import { ModelNotSupportedError, type Problems } from '../../errors.ts';
import { fixtures } from '../support/fixtures.ts';
import { refusalOf } from '../support/refusal.ts';

/** Qwen3 0.6B in the keys of transformers 4, and Llama 3.2 1B in those of 5. */
const qwen3 = {
  architectures: ['Qwen3ForCausalLM'],
  model_type: 'qwen3',
  hidden_size: 1024,
  intermediate_size: 3072,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  head_dim: 128,
  vocab_size: 151936,
  max_position_embeddings: 40960,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  rope_scaling: null,
  hidden_act: 'silu',
  attention_bias: false,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
};
const scaling = {
  rope_type: 'llama3',
  rope_theta: 500000,
  factor: 32,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};
const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32768 };
const ones = Array.from({ length: 64 }, () => 1);
const longrope = {
  rope_type: 'longrope',
  short_factor: ones,
  long_factor: ones.map((_, i) => 1 + i / 8),
  original_max_position_embeddings: 4096,
};
/** Source: config.json of microsoft/Phi-3-mini-4k-instruct. */
const phi3 = {
  ...{ architectures: ['Phi3ForCausalLM'], model_type: 'phi3', hidden_size: 3072, intermediate_size: 8192 },
  ...{ num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 32, vocab_size: 32064 },
  ...{ max_position_embeddings: 4096, original_max_position_embeddings: 4096, rms_norm_eps: 1e-5 },
  ...{ rope_theta: 10000.0, rope_scaling: null, sliding_window: 2047, hidden_act: 'silu' },
  ...{ attention_bias: false, tie_word_embeddings: false, torch_dtype: 'bfloat16' },
};
const llama = {
  model_type: 'llama',
  hidden_size: 2048,
  intermediate_size: 8192,
  num_hidden_layers: 16,
  num_attention_heads: 32,
  vocab_size: 128256,
  max_position_embeddings: 131072,
  rope_parameters: scaling,
  dtype: 'bfloat16',
  pretraining_tp: 2,
};
const nan = Number.NaN;

test('a Qwen3 config in transformers 4 keys gives these dims', () => {
  expect(parseDims(qwen3, 'qwen3-0.6b')).toEqual({
    name: 'qwen3-0.6b',
    family: 'qwen3',
    dtype: 'bf16',
    layers: 28,
    hidden: 1024,
    ffn: 3072,
    qHeads: 16,
    kvHeads: 8,
    headDim: 128,
    vocab: 151936,
    maxPositions: 40960,
    normEps: 1e-6,
    ropeTheta: 1000000,
    ropeScaling: null,
    qkNorm: true,
    qkvBias: false,
    tiedHead: true,
    kinds: [{ name: 'layer', window: null, rope: true }],
    pattern: ['layer'],
  });
});

test('Llama 3 scaling reads the same from rope_parameters and from rope_scaling beside rope_theta', () => {
  const { rope_parameters: _, ...rest } = llama;
  const four = { ...rest, rope_theta: 500000, rope_scaling: { ...scaling, rope_theta: undefined } };
  expect(parseDims(four, 'm')).toEqual(parseDims(llama, 'm'));
  expect(parseDims(llama, 'm').ropeScaling).toEqual({
    type: 'llama3',
    factor: 32,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalPositions: 8192,
  });
});

test('what a Llama config leaves out has the defaults of LlamaConfig', () => {
  const { rope_parameters: _, ...rest } = llama;
  expect(parseDims(rest, 'm')).toMatchObject({
    kvHeads: 32,
    headDim: 64,
    normEps: 1e-6,
    ropeTheta: 10000,
    tiedHead: false,
  });
});

test('what a Qwen3 config leaves out has the defaults of Qwen3Config, not of Llama', () => {
  const { num_key_value_heads: _, head_dim: __, tie_word_embeddings: ___, ...rest } = qwen3;
  const dims = parseDims({ ...rest, num_attention_heads: 64 }, 'm');
  expect(dims).toMatchObject({ kvHeads: 32, headDim: 128, tiedHead: false });
});

test('what a Mistral or SmolLM3 config leaves out has the defaults of its own class', () => {
  const { num_key_value_heads: _, head_dim: __, tie_word_embeddings: ___, rope_theta: ____, ...rest } = qwen3;
  const of = (model_type: string) => parseDims({ ...rest, model_type, architectures: null }, 'm');
  expect(of('mistral')).toMatchObject({ kvHeads: 8, headDim: 64, ropeTheta: 10_000, tiedHead: false });
  expect(of('smollm3')).toMatchObject({ kvHeads: 4, headDim: 64, ropeTheta: 2_000_000, tiedHead: true });
});

test('a name of its own has the dims of the config.json of that model', () => {
  // Source: config.json of HuggingFaceTB/SmolLM3-3B.
  const config = {
    ...{
      architectures: ['SmolLM3ForCausalLM'],
      model_type: 'smollm3',
      hidden_size: 2048,
      intermediate_size: 11008,
    },
    ...{ num_hidden_layers: 36, num_attention_heads: 16, num_key_value_heads: 4, vocab_size: 128256 },
    ...{ max_position_embeddings: 65536, rms_norm_eps: 1e-6, rope_theta: 5000000.0, rope_scaling: null },
    ...{ hidden_act: 'silu', attention_bias: false, mlp_bias: false, tie_word_embeddings: true },
    ...{ use_sliding_window: false, sliding_window: null, max_window_layers: 28, torch_dtype: 'bfloat16' },
    ...{
      no_rope_layer_interval: 4,
      no_rope_layers: Array.from({ length: 36 }, (_, i) => Number((i + 1) % 4 > 0)),
    },
  };
  expect(parseDims(config, 'smollm3-3b')).toEqual(models.find(({ name }) => name === 'smollm3-3b'));
});

test('YaRN has the settings of transformers where a config leaves them out', () => {
  const of = (more: object) => parseDims({ ...qwen3, rope_scaling: { ...yarn, ...more } }, 'm').ropeScaling;
  const usual = { type: 'yarn', factor: 4, originalPositions: 32768, betaFast: 32, betaSlow: 1 };
  expect(of({})).toEqual({ ...usual, attention: 0.1 * Math.log(4) + 1 });
  // Written for llama.cpp: transformers has no such key.
  expect(of({ attn_factor: 0.88 })).toEqual(of({}));
  expect(of({ attention_factor: 1 })).toEqual({ ...usual, attention: 1 });
  expect(of({ factor: 1 })).toEqual({ ...usual, factor: 1, attention: 1 });
});

test('Phi-3 has heads of hidden by heads, and a window in all layers where one is set', () => {
  expect(parseDims(phi3, 'm')).toMatchObject({
    ...{ family: 'phi3', headDim: 96, kvHeads: 32, normEps: 1e-5, tiedHead: false, ropeScaling: null },
    ...{ kinds: [{ name: 'window', window: 2047, rope: true }], pattern: ['window'] },
  });
  const { num_key_value_heads: _, rms_norm_eps: __, sliding_window: ___, ...rest } = phi3;
  expect(parseDims(rest, 'm')).toMatchObject({ kvHeads: 32, normEps: 1e-5, pattern: ['layer'] });
});

test('Granite multiplies in units of its embedding, by 1 where a key is missing', () => {
  const multipliers = { embedding_multiplier: 12, residual_multiplier: 0.25 };
  const others = { attention_multiplier: 0.015625, logits_scaling: 8 };
  const of = (more: object) =>
    parseDims({ ...llama, architectures: ['GraniteForCausalLM'], model_type: 'granite', ...more }, 'm');
  expect(of({ ...multipliers, ...others, rms_norm_eps: 144e-5 })).toMatchObject({
    ...{ family: 'granite', normEps: expect.closeTo(1e-5, 15) },
    factors: { branch: 0.25 / 12, scores: 0.015625, logits: 0.125 },
  });
  expect(of({ rms_norm_eps: null })).toMatchObject({
    normEps: 1e-6,
    factors: { branch: 1, scores: 1, logits: 1 },
  });
  expect(parseDims({ ...llama, ...multipliers, ...others }, 'm')).toEqual(parseDims(llama, 'm'));
  for (const [key, value] of [
    ['embedding_multiplier', 0],
    ['residual_multiplier', -1],
    ['logits_scaling', 1e9],
  ] as const)
    expect(() => of({ [key]: value })).toThrow(`${key} is ${value}, must be more than 0 and at most 1000000`);
});

test('LongRoPE has both lists, and larger cosines by how much longer the context has become', () => {
  const of = (more: object, scaling: object = {}) =>
    parseDims(
      { ...qwen3, max_position_embeddings: 131072, rope_scaling: { ...longrope, ...scaling }, ...more },
      'm',
    ).ropeScaling;
  const { short_factor: shortFactors, long_factor: longFactors } = longrope;
  const lists = { type: 'longrope', shortFactors, longFactors, originalPositions: 4096 };
  expect(of({})).toEqual({ ...lists, attention: Math.sqrt(1 + Math.log(32) / Math.log(4096)) });
  expect(of({ max_position_embeddings: 4096 })).toEqual({ ...lists, attention: 1 });
  expect(of({}, { attention_factor: 1.5 })).toEqual({ ...lists, attention: 1.5 });
  // As older files of Phi-3 have it.
  const halves = { short_factor: ones.slice(16), long_factor: ones.slice(16) };
  for (const type of ['su', 'yarn']) {
    const config = { ...phi3, max_position_embeddings: 131072, rope_scaling: { type, ...halves } };
    expect(parseDims(config, 'm').ropeScaling).toMatchObject({ type: 'longrope', originalPositions: 4096 });
  }
});

test('the frequencies of LongRoPE are those of transformers, in the first context and in a longer one', () => {
  const factors = (step: number, square: number) =>
    Array.from({ length: 12 }, (_, i) => Number((1 + step * i + square * i * i).toFixed(3)));
  const config = {
    ...{ ...phi3, hidden_size: 96, num_attention_heads: 4, num_key_value_heads: 2 },
    ...{ max_position_embeddings: 512, original_max_position_embeddings: 64 },
    rope_scaling: { type: 'longrope', short_factor: factors(0.02, 0), long_factor: factors(0.35, 0.04) },
  };
  const dims = parseDims(config, 'm');
  // Phi3RotaryEmbedding of transformers 5.17, with sequences of 8 and of 200 tokens.
  const short = [
    ...[1, 0.4550577402114868, 0.2071571797132492, 0.09433962404727936, 0.04297766834497452],
    ...[0.01958576962351799, 0.008928571827709675, 0.004071570001542568, 0.0018572710687294602],
    ...[0.0008474576170556247, 0.0003867991326842457, 0.0001765929628163576],
  ];
  const long = [
    ...[1, 0.3339272439479828, 0.11582981050014496, 0.041493773460388184, 0.015268383547663689],
    ...[0.005745159462094307, 0.0022026430815458298, 0.0008579647983424366, 0.0003387475444469601],
    ...[0.00013531799777410924, 5.460693864733912e-5, 2.2233583877095953e-5],
  ];
  expect(inverseFrequencies(settleContext(dims, 64))).toEqual(short);
  expect(inverseFrequencies(settleContext(dims, 65))).toEqual(long);
  expect(inverseFrequencies(dims)).toEqual(long);
  expect(attentionScale(dims)).toBeCloseTo(1.224744871391589 ** 2 / Math.sqrt(24), 12);
});

describe('a part of a head rotated', () => {
  const factors = Array.from({ length: 12 }, (_, i) => 1 + i / 8);
  const scaling = { type: 'longrope', short_factor: factors, long_factor: factors };
  const phi4 = {
    ...{ ...phi3, hidden_size: 96, num_attention_heads: 3, num_key_value_heads: 3 },
    ...{ max_position_embeddings: 512, original_max_position_embeddings: 64 },
    ...{ rope_scaling: scaling, partial_rotary_factor: 0.75 },
  };

  test('has the frequencies of a head of that size, and sizes of its pairs alone', () => {
    const dims = parseDims(phi4, 'm');
    expect(dims).toMatchObject({ headDim: 32, rotated: 24 });
    const small = { ...phi4, hidden_size: 72, partial_rotary_factor: 1 };
    const whole = parseDims(small, 'm');
    expect(whole).not.toHaveProperty('rotated');
    expect(inverseFrequencies(dims)).toEqual([...inverseFrequencies(whole), 0, 0, 0, 0]);
    const size = Math.fround(Math.sqrt(1 + Math.log(8) / Math.log(64)));
    expect(rotatedSize(dims)).toBe(size);
    expect(attentionScale(dims)).toBe(1 / Math.sqrt(32));
    expect([rotatedSize(whole), rotatedSize({ ...dims, ropeScaling: null })]).toEqual([1, 1]);
    expect(attentionScale(whole)).toBeCloseTo(size ** 2 / Math.sqrt(24), 6);
    expect(checkDims(dims)).toBe(dims);
  });

  test.each([
    [{ partial_rotary_factor: 0.72 }, 'partial_rotary_factor rotates 23 numbers of a head of 32'],
    [{ partial_rotary_factor: 0 }, 'partial_rotary_factor rotates 0 numbers of a head of 32'],
    [{ partial_rotary_factor: 1.5 }, 'partial_rotary_factor rotates 48 numbers of a head of 32'],
    [{ partial_rotary_factor: 0.5 }, 'short_factor of longrope rope scaling has 12 entries, must have 8'],
  ])('%j is refused', (change, message) => {
    expect(refusalOf(() => parseDims({ ...phi4, ...change }, 'm')).message).toContain(message);
  });

  test.each([{ qkNorm: true }, { qkvBias: true }])('%j is refused beside it', (change) => {
    expect(refusalOf(() => checkDims({ ...parseDims(phi4, 'm'), ...change })).message).toContain(
      'rotated is for models without norms or biases of queries and keys',
    );
  });
});

test('a kernel for the first context of LongRoPE has no more positions', () => {
  const dims = parseDims({ ...qwen3, max_position_embeddings: 131072, rope_scaling: longrope }, 'm');
  expect(settleContext(dims).maxPositions).toBe(4096);
  expect(settleContext(dims, 1).maxPositions).toBe(4096);
  expect(settleContext(dims, 4097)).toBe(dims);
  const other = parseDims(qwen3, 'm');
  expect(settleContext(other, 1)).toBe(other);
});

test('Qwen2 has a bias on q, k and v whatever attention_bias says', () => {
  const dims = parseDims(
    { ...llama, rope_parameters: null, num_key_value_heads: 2, model_type: 'qwen2', attention_bias: false },
    'm',
  );
  expect(dims).toMatchObject({ qkvBias: true, qkNorm: false, family: 'qwen2' });
});

test('a model that was saved without its head is one of its family', () => {
  expect(parseDims({ ...qwen3, architectures: ['Qwen3Model'] }, 'm')).toEqual(parseDims(qwen3, 'm'));
});

test('every bundled model has a config that parses', () => {
  for (const directory of fixtures) {
    const url = new URL(`../fixtures/${directory}`, import.meta.url).pathname;
    expect(readModelDims(url)).toMatchObject({ name: directory, dtype: 'bf16', maxPositions: 512 });
  }
  const tiny = readModelDims(new URL('../../models/qwen3-tiny', import.meta.url).pathname);
  expect(tiny).toMatchObject({ layers: 6, hidden: 256, vocab: 4096 });
});

test('dims that were parsed pass checkDims unchanged', () => {
  const dims = parseDims(llama, 'm');
  expect(checkDims(dims)).toBe(dims);
});

test('a directory in the Hugging Face cache is named after its repository', () => {
  expect(modelName('/cache/models--Qwen--Qwen3-0.6B/snapshots/c1899de2')).toBe('qwen3-0.6b');
  expect(modelName('/models/My Model')).toBe('my-model');
});

test('all problems of a config are reported, the first as the message', () => {
  const error = refusalOf(() =>
    parseDims({ ...qwen3, hidden_size: 'big', hidden_act: 'gelu', head_dim: 63 }, 'm'),
  );
  expect([error.message, ...error.hint!.split('\n')]).toEqual([
    'config.json of m: hidden_size is "big", must be a number',
    "Compare with the file in the model's own repository.",
    'also: config.json of m: hidden_act is "gelu", supported: silu',
    'also: config.json of m: head_dim is 63, must be even',
  ]);
});

const badConfigs: [patch: object, message: string][] = [
  [
    { model_type: 'qwen3_moe' },
    'model_type is "qwen3_moe", supported: qwen3, qwen2, llama, mistral, smollm3, phi3, granite',
  ],
  [
    { model_type: 'gemma3_text' },
    'model_type is "gemma3_text", supported: qwen3, qwen2, llama, mistral, smollm3, phi3, granite',
  ],
  [
    { model_type: 'ministral' },
    'model_type is "ministral", supported: qwen3, qwen2, llama, mistral, smollm3, phi3, granite',
  ],
  [
    { model_type: 'gpt2' },
    'model_type is "gpt2", supported: qwen3, qwen2, llama, mistral, smollm3, phi3, granite',
  ],
  [
    { model_type: undefined },
    'model_type is missing, supported: qwen3, qwen2, llama, mistral, smollm3, phi3, granite',
  ],
  [
    { architectures: ['Qwen3ForSequenceClassification'] },
    'architectures is ["Qwen3ForSequenceClassification"], supported: Qwen3ForCausalLM, Qwen3Model',
  ],
  [{ torch_dtype: 'float8_e4m3fn' }, 'torch_dtype is "float8_e4m3fn", supported: bfloat16, float16, float32'],
  [{ torch_dtype: undefined }, 'dtype is missing'],
  [{ quantization_config: { quant_method: 'awq' } }, 'quantization_config.bits is missing'],
  [{ hidden_act: 'gelu_pytorch_tanh' }, 'hidden_act is "gelu_pytorch_tanh", supported: silu'],
  [{ hidden_act: '' }, 'hidden_act is "", supported: silu'],
  [{ attention_bias: true }, 'attention_bias is true, supported: false'],
  [{ model_type: 'llama', architectures: null, mlp_bias: true }, 'mlp_bias is true, supported: false'],
  [
    { layer_types: ['full_attention', 'sliding_attention'] },
    'layer_types has 2 entries, must have num_hidden_layers, 28',
  ],
  [
    { rope_scaling: { type: 'dynamic', factor: 4 } },
    'rope_scaling.rope_type is "dynamic", supported: default, linear, llama3, yarn, longrope',
  ],
  [
    { rope_scaling: { ...longrope, long_factor: [1, 2] } },
    'long_factor of longrope rope scaling has 2 entries, must have 64',
  ],
  [
    { rope_scaling: { ...longrope, short_factor: ones.with(3, 0) } },
    'short_factor of longrope rope scaling has 0, must have numbers from 0.001 to 1000000',
  ],
  [
    { rope_scaling: { ...longrope, short_factor: undefined } },
    'short_factor of longrope rope scaling has 0 entries, must have 64',
  ],
  [
    { rope_scaling: { rope_type: 'yarn', factor: 4 } },
    'original_max_position_embeddings of yarn rope scaling is missing, must be from 1 to 16777216',
  ],
  [{ rope_scaling: { ...yarn, beta_fast: 1 } }, 'beta_slow is 1, must be less than beta_fast, 1'],
  [{ rope_scaling: { ...yarn, truncate: false } }, 'rope_scaling.truncate is false, supported: true'],
  [{ rope_scaling: { ...yarn, beta_fast: '32' } }, 'rope_scaling.beta_fast is "32", must be a number'],
  [
    { rope_scaling: { rope_type: 'linear' } },
    'factor of linear rope scaling is missing, must be from 1 to 1000000',
  ],
  [
    { model_type: 'smollm3', architectures: null, rope_scaling: { ...yarn, attention_factor: 2 } },
    'attention_factor is 2, and some layers are not rotated, which have no such factor',
  ],
  [
    { rope_scaling: { factor: 4 } },
    'rope_scaling.rope_type is "none", supported: default, linear, llama3, yarn, longrope',
  ],
  [
    { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 } },
    'original_max_position_embeddings of llama3 rope scaling is missing, must be from 1 to 16777216',
  ],
  [
    { rope_scaling: { ...scaling, low_freq_factor: 4 } },
    'low_freq_factor is 4, must be less than high_freq_factor, 4',
  ],
  [
    { rope_parameters: { full_attention: { rope_type: 'default' } } },
    'rope_parameters.full_attention gives rotary parameters to some layers, and all layers must share them',
  ],
  [{ rope_parameters: { rope_theta: '1e6' } }, 'rope_parameters.rope_theta is "1e6", must be a number'],
  [{ partial_rotary_factor: 0.5 }, 'partial_rotary_factor is 0.5, supported: 1'],
  [{ head_dim: 127 }, 'head_dim is 127, must be even'],
  [{ num_key_value_heads: 3 }, 'num_attention_heads is 16, must be a multiple of num_key_value_heads, 3'],
  [{ num_hidden_layers: 0 }, 'num_hidden_layers is 0, must be a whole number from 1 to 1024'],
  [{ num_hidden_layers: 2.5 }, 'num_hidden_layers is 2.5, must be a whole number from 1 to 1024'],
  [{ hidden_size: -1024 }, 'hidden_size is -1024, must be a whole number from 1 to 65536'],
  [{ vocab_size: 1e12 }, 'vocab_size is 1000000000000, must be a whole number from 1 to 4194304'],
  [{ intermediate_size: nan }, 'intermediate_size is NaN, must be a number'],
  [{ max_position_embeddings: undefined }, 'max_position_embeddings is missing'],
  [{ rms_norm_eps: 0 }, 'rms_norm_eps is 0, must be more than 0 and at most 0.1'],
  [{ rope_theta: -1 }, 'rope_theta is -1, must be from 1 to 1000000000000'],
  [
    { model_type: 'llama', architectures: null, head_dim: null, hidden_size: 1000 },
    'head_dim is 62.5, must be a whole number from 1 to 1024',
  ],
  [{ tie_word_embeddings: 'yes' }, 'tie_word_embeddings is "yes", must be a boolean'],
];

test.each(badConfigs)('a config with %j is refused', (patch, message) => {
  const error = refusalOf(() => parseDims({ ...qwen3, ...patch }, 'm'));
  expect(error.message).toBe(`config.json of m: ${message}`);
  expect(error.kind).toBe('usage');
  expect(error.hint).toMatch(/^\S.*[.]$/);
  const isUnsupported = /supported: |holds a second configuration|all layers must share/;
  expect(error instanceof ModelNotSupportedError, error.name).toBe(isUnsupported.test(message));
});

test('a model that is not supported is told by its type, and by the setting', () => {
  const of = (patch: object) => refusalOf(() => parseDims({ ...qwen3, ...patch }, 'm'));
  expect(of({ model_type: 'gpt2' })).toMatchObject({ modelType: 'gpt2', setting: 'model_type' });
  expect(of({ model_type: undefined })).toMatchObject({ modelType: undefined, setting: 'model_type' });
  expect(of({ hidden_act: 'gelu' })).toMatchObject({ modelType: 'qwen3', setting: 'hidden_act' });
  const several = of({ hidden_act: 'gelu', attention_bias: true }) as Problems;
  expect(several.problems.map(({ name }) => name)).toEqual(Array(2).fill('ModelNotSupportedError'));
});

const badDims: [patch: object, message: string][] = [
  [{ family: 'gemma' }, 'family is "gemma", supported: qwen3, qwen2, llama, mistral, smollm3, phi3, granite'],
  [{ dtype: 'int8' }, 'dtype is "int8", supported: bf16, fp16, fp32'],
  [{ layers: nan }, 'layers is NaN, must be a whole number from 1 to 1024'],
  [{ kvHeads: 5 }, 'qHeads is 16, must be a multiple of kvHeads, 5'],
  [{ headDim: 33 }, 'headDim is 33, must be even'],
  [
    { ropeScaling: { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4 } },
    'originalPositions of llama3 rope scaling is missing, must be from 1 to 16777216',
  ],
  [
    { ropeScaling: { type: 'toString', factor: 8 } },
    'ropeScaling is of the type "toString", supported: linear, llama3, yarn, longrope',
  ],
  [
    { factors: { branch: 0, scores: 1, logits: 1 } },
    'factors.branch is 0, must be more than 0 and at most 1000000',
  ],
  [
    { factors: { branch: 1, scores: 1 } },
    'factors.logits is missing, must be more than 0 and at most 1000000',
  ],
  [{ normEps: Number.POSITIVE_INFINITY }, 'normEps is Infinity, must be more than 0 and at most 0.1'],
];

test.each(badDims)('TypeScript dims with %j are refused', (patch, message) => {
  const error = refusalOf(() => checkDims({ ...parseDims(qwen3, 'm'), ...patch } as ModelDims));
  expect(error.message).toBe(`dims of m: ${message}`);
  expect(error.kind).toBe('usage');
  expect(error.hint).toMatch(/^\S.*[.]$/);
});

const badFiles: [text: string, message: string][] = [
  ['{\n  "hidden_size": 1024,\n  "num_layers" 2\n}', 'DIR/config.json:3:16: not valid JSON, unexpected "2"'],
  ['{"hidden_size": 1024,}', 'DIR/config.json:1:22: not valid JSON, unexpected "}"'],
  ['{"hidden_size": NaN}', 'DIR/config.json:1:17: not valid JSON, unexpected "N"'],
  ['{"a": [1, 2}', 'DIR/config.json:1:12: not valid JSON, unexpected "}"'],
  ['{"hidden_size": 10', 'DIR/config.json:1:19: not valid JSON, the file ends too early'],
  ['', 'DIR/config.json is empty'],
  ['[]', 'DIR/config.json: must be a JSON object, is []'],
  ['null', 'DIR/config.json: must be a JSON object, is null'],
];

test.each(badFiles)('a config.json of %j is refused', (text, message) => {
  const directory = join(mkdtempSync(join(tmpdir(), 'onelaunch-')), 'broken');
  mkdirSync(directory);
  writeFileSync(join(directory, 'config.json'), text);
  const error = refusalOf(() => readModelDims(directory));
  expect(error.message.replace(directory, 'DIR')).toBe(message);
  expect(error.kind).toBe('usage');
  expect(error.hint).toMatch(/^\S.*[.]$/);
});

test('a missing directory, a file, and a directory without config.json are told apart', () => {
  const file = new URL(import.meta.url).pathname;
  const empty = mkdtempSync(join(tmpdir(), 'onelaunch-'));
  const messages = ['/nowhere/model', file, empty].map(
    (path) => refusalOf(() => readModelDims(path)).message,
  );
  expect(messages).toEqual([
    'no directory /nowhere/model',
    `${file} is not a directory`,
    `no config.json in ${empty}`,
  ]);
});
