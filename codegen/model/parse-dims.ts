// Dims out of a model's config.json. A file of another family, or with what no kernel computes, is refused.
import { z } from 'zod';
import { type Dtype, families, type ModelDims } from './dims.ts';
import {
  copyAgain,
  familyHint,
  findProblems,
  type Keys,
  type Problem,
  refusal,
  show,
  unsupported,
  unsupportedFamily,
} from './dims-problems.ts';
import { oneKind } from './kinds.ts';

const torchDtypes: Readonly<Record<string, Dtype>> = { bfloat16: 'bf16', float16: 'fp16', float32: 'fp32' };

/** Dims of the model that a Hugging Face config.json describes, in the keys of transformers 4 or 5.
 *
 *  A missing key has the default of transformers' Qwen3Config, Qwen2Config or LlamaConfig: head_dim, num_key_value_heads,
 *  rms_norm_eps, rope_theta, hidden_act, and tie_word_embeddings, which is false in all three. Sizes must be given, and so
 *  must the dtype: a guess would be twice the bytes or other digits.
 *  @throws OnelaunchError of kind usage: the first problem is the message, the others are lines of the hint. */
export function parseDims(config: unknown, name: string): ModelDims {
  const place = `config.json of ${name}`;
  const family = findFamily(config, place);
  const parsed = configSchema.safeParse(config);
  const problems: Problem[] = [];
  for (const issue of parsed.error?.issues ?? []) problems.push(wrongType(config, issue));
  // What has the wrong type is left out, so that the rest is still checked.
  const wrong = new Set(problems.map((problem) => problem.key));
  const right = Object.entries(config as object).filter(([key]) => !wrong.has(key));
  const fields: Fields = partialSchema.parse(Object.fromEntries(right));

  problems.push(...findUnsupported(fields, family));
  const dims = toDims(fields, family, name);
  problems.push(...findProblems(dims, configKeys).filter((problem) => !wrong.has(problem.key)));
  if (problems.length > 0) throw refusal(place, problems);
  return dims;
}

const rope = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: z.number().nullish(),
  factor: z.number().nullish(),
  low_freq_factor: z.number().nullish(),
  high_freq_factor: z.number().nullish(),
  original_max_position_embeddings: z.number().nullish(),
  partial_rotary_factor: z.number().nullish(),
});

const configSchema = z.looseObject({
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  vocab_size: z.number(),
  max_position_embeddings: z.number(),
  num_key_value_heads: z.number().nullish(),
  head_dim: z.number().nullish(),
  rms_norm_eps: z.number().nullish(),
  rope_theta: z.number().nullish(),
  rope_scaling: rope.nullish(),
  rope_parameters: rope.nullish(),
  partial_rotary_factor: z.number().nullish(),
  hidden_act: z.string().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  dtype: z.string().nullish(),
  torch_dtype: z.string().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  use_sliding_window: z.boolean().nullish(),
  layer_types: z.array(z.string()).nullish(),
});
const partialSchema = configSchema.partial();
type Fields = z.infer<typeof partialSchema>;

const configKeys: Keys = {
  layers: 'num_hidden_layers',
  hidden: 'hidden_size',
  ffn: 'intermediate_size',
  qHeads: 'num_attention_heads',
  kvHeads: 'num_key_value_heads',
  headDim: 'head_dim',
  vocab: 'vocab_size',
  maxPositions: 'max_position_embeddings',
  normEps: 'rms_norm_eps',
  ropeTheta: 'rope_theta',
  factor: 'factor',
  lowFreqFactor: 'low_freq_factor',
  highFreqFactor: 'high_freq_factor',
  originalPositions: 'original_max_position_embeddings',
};

/** The other keys of a file of another family mean nothing here, so this one problem is reported alone. */
function findFamily(config: unknown, place: string): ModelDims['family'] {
  const optional = z.unknown().optional();
  const head = z.looseObject({ model_type: optional, architectures: optional }).safeParse(config);
  if (!head.success) {
    const text = `must be a JSON object, is ${show(config)}`;
    throw refusal(place, [{ key: '', text, hint: copyAgain }]);
  }
  const { model_type: type, architectures } = head.data;
  const family = families.find((one) => one === type);
  if (family === undefined) throw refusal(place, [unsupportedFamily('model_type', type)]);
  const architecture = { qwen3: 'Qwen3ForCausalLM', qwen2: 'Qwen2ForCausalLM', llama: 'LlamaForCausalLM' }[
    family
  ];
  if (
    architectures !== undefined &&
    architectures !== null &&
    !(architectures as unknown[]).includes?.(architecture)
  ) {
    throw refusal(place, [unsupported('architectures', architectures, [architecture])]);
  }
  return family;
}

function findUnsupported(fields: Fields, family: ModelDims['family']): Problem[] {
  const problems: Problem[] = [];
  const dtype = fields.dtype ?? fields.torch_dtype;
  const dtypeKey = fields.torch_dtype ? 'torch_dtype' : 'dtype';
  if (dtype === undefined || dtype === null) {
    const hint = `Add the type that the weights are stored in, such as "dtype": "bfloat16".`;
    problems.push({ key: 'dtype', text: 'dtype is missing', hint });
  } else if (!(dtype in torchDtypes)) {
    const hint = 'Use the bfloat16 checkpoint of this model.';
    problems.push({ ...unsupported(dtypeKey, dtype, Object.keys(torchDtypes)), hint });
  }
  if (fields['quantization_config'] !== undefined && fields['quantization_config'] !== null) {
    const text = 'quantization_config is set, and quantized weights are not supported';
    problems.push({
      key: 'quantization_config',
      text,
      hint: 'Use the unquantized checkpoint of this model.',
    });
  }
  if (fields.hidden_act && fields.hidden_act !== 'silu') {
    problems.push(unsupported('hidden_act', fields.hidden_act, ['silu']));
  }
  // Qwen2 has no such key: its q, k and v always have a bias, and nothing else has.
  if (fields.attention_bias && family !== 'qwen2')
    problems.push(unsupported('attention_bias', true, [false]));
  if (fields.mlp_bias && family === 'llama') problems.push(unsupported('mlp_bias', true, [false]));
  if (fields.use_sliding_window) problems.push(unsupported('use_sliding_window', true, [false]));
  const layerType = fields.layer_types?.find((type) => type !== 'full_attention');
  if (layerType !== undefined) problems.push(unsupported('layer_types', layerType, ['full_attention']));

  const { key, parameters, type } = readRope(fields);
  if (type !== 'default' && type !== 'llama3') {
    const hint = `Take the scaling out of ${key} if the context that the model was trained on is enough.`;
    problems.push({ ...unsupported(`${key}.rope_type`, type, ['default', 'llama3']), hint });
  }
  const nested = Object.keys(parameters).find(
    (one) => typeof parameters[one] === 'object' && parameters[one] !== null,
  );
  if (nested !== undefined) {
    const text = `${key}.${nested} gives rotary parameters to some layers, and all layers must share them`;
    problems.push({ key, text, hint: familyHint });
  }
  const partial = parameters.partial_rotary_factor ?? fields.partial_rotary_factor ?? 1;
  if (partial !== 1) problems.push(unsupported('partial_rotary_factor', partial, [1]));
  return problems;
}

function readRope(fields: Fields) {
  const key = fields.rope_parameters ? 'rope_parameters' : 'rope_scaling';
  const parameters: z.infer<typeof rope> = fields[key] ?? {};
  // A factor without a type would silently not be applied.
  const unnamed = typeof parameters.factor === 'number' ? 'none' : 'default';
  return { key, parameters, type: parameters.rope_type ?? parameters.type ?? unnamed };
}

/** Dims with NaN for what is missing: findProblems says what is wrong with them. */
function toDims(fields: Fields, family: ModelDims['family'], name: string): ModelDims {
  const { parameters, type } = readRope(fields);
  const hidden = fields.hidden_size ?? Number.NaN;
  const qHeads = fields.num_attention_heads ?? Number.NaN;
  // Transformers' Qwen configs have 32 for an absent key; null means one for each query head.
  const kvHeads = fields.num_key_value_heads === undefined && family !== 'llama' ? 32 : qHeads;
  return {
    name,
    family,
    dtype: torchDtypes[fields.dtype ?? fields.torch_dtype ?? ''] ?? 'bf16',
    layers: fields.num_hidden_layers ?? Number.NaN,
    hidden,
    ffn: fields.intermediate_size ?? Number.NaN,
    qHeads,
    kvHeads: fields.num_key_value_heads ?? kvHeads,
    headDim: fields.head_dim ?? (family === 'qwen3' ? 128 : hidden / qHeads),
    vocab: fields.vocab_size ?? Number.NaN,
    maxPositions: fields.max_position_embeddings ?? Number.NaN,
    normEps: fields.rms_norm_eps ?? 1e-6,
    ropeTheta: parameters.rope_theta ?? fields.rope_theta ?? 10000,
    ropeScaling:
      type === 'llama3'
        ? {
            type,
            factor: parameters.factor ?? Number.NaN,
            lowFreqFactor: parameters.low_freq_factor ?? Number.NaN,
            highFreqFactor: parameters.high_freq_factor ?? Number.NaN,
            originalPositions: parameters.original_max_position_embeddings ?? Number.NaN,
          }
        : null,
    qkNorm: family === 'qwen3',
    qkvBias: family === 'qwen2',
    tiedHead: fields.tie_word_embeddings ?? false,
    ...oneKind,
  };
}

function wrongType(config: unknown, issue: z.core.$ZodIssue): Problem {
  const value = issue.path.reduce((at: unknown, key) => (at as Record<PropertyKey, unknown>)?.[key], config);
  const expected = issue.code === 'invalid_type' ? issue.expected : 'valid';
  const text = value === undefined ? 'is missing' : `is ${show(value)}, must be a ${expected}`;
  return { key: String(issue.path[0]), text: `${issue.path.join('.')} ${text}`, hint: copyAgain };
}
