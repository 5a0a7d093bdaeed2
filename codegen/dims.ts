// A model as the generator sees it: dimensions and a few switches. A model outside the supported families is refused by name.
import { z } from 'zod';
import { OnelaunchError } from '../errors.ts';

export type Dtype = 'bf16' | 'fp16' | 'fp32';

/** Llama 3's rescaling of the low rotary frequencies. */
export interface RopeScaling {
  readonly type: 'llama3';
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  readonly originalPositions: number;
}

/** Letters used in doc comments everywhere: H hidden, F ffn, Q qHeads, K kvHeads, D headDim, V vocab, T tokens in a pass. */
export interface ModelDims {
  readonly name: string;
  readonly family: 'qwen3' | 'qwen2' | 'llama';
  /** Storage type of matrices in the checkpoint, in the packed weights and in the KV cache. */
  readonly dtype: Dtype;
  readonly layers: number;
  readonly hidden: number;
  readonly ffn: number;
  readonly qHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocab: number;
  /** The longest context the model was made for. */
  readonly maxPositions: number;
  readonly normEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
  /** RMSNorm on each q and k head (Qwen3). */
  readonly qkNorm: boolean;
  /** Bias on q, k and v (Qwen2). */
  readonly qkvBias: boolean;
  /** LM head and embedding are one matrix. */
  readonly tiedHead: boolean;
}

const families = ['qwen3', 'qwen2', 'llama'] as const;
const dtypes: readonly Dtype[] = ['bf16', 'fp16', 'fp32'];
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

/** The same dims, checked: for dims written as TypeScript data.
 *  @throws OnelaunchError of kind usage, as parseDims does. */
export function checkDims(dims: ModelDims): ModelDims {
  const problems = findProblems(dims, dimsKeys);
  if (!families.includes(dims.family)) problems.unshift(unsupportedFamily('family', dims.family));
  if (!dtypes.includes(dims.dtype)) problems.push(unsupported('dtype', dims.dtype, dtypes));
  if (problems.length > 0) throw refusal(`dims of ${dims.name}`, problems);
  return dims;
}

interface Problem {
  /** The key to blame, as the user wrote it. */
  readonly key: string;
  readonly text: string;
  readonly hint: string;
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
  };
}

/** The largest size of each kind that is believed: far above every published model, and positions are exact in float32. */
const mostOf = {
  layers: 1024,
  hidden: 65536,
  ffn: 262144,
  qHeads: 1024,
  kvHeads: 1024,
  headDim: 1024,
  vocab: 4194304,
  maxPositions: 16777216,
} as const;

const scalingKeys = ['factor', 'lowFreqFactor', 'highFreqFactor', 'originalPositions'] as const;
type Key = keyof typeof mostOf | 'normEps' | 'ropeTheta' | (typeof scalingKeys)[number];
type Keys = Readonly<Record<Key, string>>;

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
const dimsKeys = Object.fromEntries(Object.keys(configKeys).map((key) => [key, key])) as Keys;

function findProblems(dims: ModelDims, keys: Keys): Problem[] {
  const problems: Problem[] = [];
  const wrong = (key: string, text: string, hint = copyAgain) =>
    problems.push({ key, text: `${key} ${text}`, hint });
  // JSON has no NaN: in a config it stands for what is not there.
  const shown = (value: unknown) => (Number.isNaN(value) && keys === configKeys ? 'missing' : show(value));
  const isCount = (value: unknown, most: number) =>
    Number.isInteger(value) && Number(value) >= 1 && Number(value) <= most;
  const isBetween = (value: unknown, least: number, most: number) =>
    typeof value === 'number' && value >= least && value <= most;

  for (const [key, most] of Object.entries(mostOf) as [keyof typeof mostOf, number][]) {
    // A head_dim that follows from two wrong numbers is not a third mistake.
    if (
      key === 'headDim' &&
      Number.isNaN(dims.headDim) &&
      (Number.isNaN(dims.hidden) || Number.isNaN(dims.qHeads))
    )
      continue;
    if (!isCount(dims[key], most))
      wrong(keys[key], `is ${shown(dims[key])}, must be a whole number from 1 to ${most}`);
  }
  if (isCount(dims.headDim, mostOf.headDim) && dims.headDim % 2 !== 0) {
    wrong(
      keys.headDim,
      `is ${dims.headDim}, must be even`,
      'Rotary embedding turns the two halves of a head together.',
    );
  }
  if (
    isCount(dims.qHeads, mostOf.qHeads) &&
    isCount(dims.kvHeads, mostOf.kvHeads) &&
    dims.qHeads % dims.kvHeads !== 0
  ) {
    const text = `is ${dims.qHeads}, must be a multiple of ${keys.kvHeads}, ${dims.kvHeads}`;
    wrong(keys.qHeads, text, 'Every key-value head serves the same number of query heads.');
  }
  if (!isBetween(dims.normEps, Number.MIN_VALUE, 0.1)) {
    wrong(keys.normEps, `is ${shown(dims.normEps)}, must be more than 0 and at most 0.1`);
  }
  if (!isBetween(dims.ropeTheta, 1, 1e12)) {
    wrong(keys.ropeTheta, `is ${shown(dims.ropeTheta)}, must be from 1 to 1000000000000`);
  }
  const scaling = dims.ropeScaling;
  if (scaling === null) return problems;
  const hint = 'Llama 3.2 has factor 32, low 1, high 4 and 8192 positions before scaling.';
  for (const key of scalingKeys) {
    const [least, most] = { factor: [1, 1e6], originalPositions: [1, mostOf.maxPositions] }[String(key)] ?? [
      1e-3, 1e6,
    ];
    if (!isBetween(scaling[key], least!, most!)) {
      wrong(
        keys[key],
        `of llama3 rope scaling is ${shown(scaling[key])}, must be from ${least} to ${most}`,
        hint,
      );
    }
  }
  if (scaling.lowFreqFactor >= scaling.highFreqFactor) {
    const text = `is ${scaling.lowFreqFactor}, must be less than ${keys.highFreqFactor}, ${scaling.highFreqFactor}`;
    wrong(keys.lowFreqFactor, text, hint);
  }
  return problems;
}

const copyAgain = "Compare with the file in the model's own repository.";
const familyHint = 'Use a dense Qwen3, Qwen2, Qwen2.5, Llama or SmolLM2 model.';

function unsupportedFamily(key: string, value: unknown): Problem {
  return { ...unsupported(key, value, families), hint: familyHint };
}

function unsupported(key: string, value: unknown, supported: readonly unknown[]): Problem {
  const text = `${key} is ${show(value)}, supported: ${supported.join(', ')}`;
  return { key, text, hint: familyHint };
}

function wrongType(config: unknown, issue: z.core.$ZodIssue): Problem {
  const value = issue.path.reduce((at: unknown, key) => (at as Record<PropertyKey, unknown>)?.[key], config);
  const expected = issue.code === 'invalid_type' ? issue.expected : 'valid';
  const text = value === undefined ? 'is missing' : `is ${show(value)}, must be a ${expected}`;
  return { key: String(issue.path[0]), text: `${issue.path.join('.')} ${text}`, hint: copyAgain };
}

function refusal(place: string, problems: readonly Problem[]): OnelaunchError {
  const [first, ...others] = problems;
  const hint = [first!.hint, ...others.map((problem) => `also: ${problem.text}`)].join('\n');
  return new OnelaunchError('usage', `${place}: ${first!.text}`, { hint });
}

function show(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
