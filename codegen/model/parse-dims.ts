// Dims out of a model's config.json. A file of another family, or with what no kernel computes, is refused.
import { z } from 'zod';
import { otherModel } from '../../gguf/refusals.ts';
import { isRefused, type Quantisation, quantisationSaid, readQuantisation } from '../../quantised/config.ts';
import { families, type ModelDims, type RopeScaling } from './dims.ts';
import {
  copyAgain,
  findProblems,
  type Keys,
  type Problem,
  refusal,
  show,
  unsupported,
  unsupportedFamily,
} from './dims-problems.ts';
import { factorText, inEmbeddings, isFactor, type Scales } from './factors.ts';
import { familyFacts } from './families.ts';
import { blockFormats, type Dtype } from './formats.ts';
import { layerKinds } from './layer-kinds.ts';
import { findScalingProblems, isScalingType, scalingOf, scalingTypes } from './rope-scaling.ts';
import { findDisagreements, ropeKeys, type Setting, spelled } from './spellings.ts';

const bfloat16Hint = 'Use the bfloat16 checkpoint of this model.';
const torchDtypes: Readonly<Record<string, Dtype>> = { bfloat16: 'bf16', float16: 'fp16', float32: 'fp32' };

/** Dims of the model that a Hugging Face config.json describes, in the keys of transformers 4 or 5.
 *
 *  A missing key has the default of the family's config class in transformers: head_dim, num_key_value_heads, rms_norm_eps,
 *  rope_theta, hidden_act, tie_word_embeddings, and what says which layers see a window or are not rotated. Sizes must be
 *  given, and so must the dtype: a guess would be twice the bytes or other digits.
 *  @throws OnelaunchError of kind usage, with all problems of the file. */
export function parseDims(config: unknown, name: string): ModelDims {
  return parseConfig(config, name).dims;
}

/** As parseDims, with what the user should know of the file, one line each: settings that it spells twice, with two values.
 *  @param place what the problems are told of */
export function parseConfig(
  config: unknown,
  name: string,
  place = `config.json of ${name}`,
): { dims: ModelDims; notes: readonly string[] } {
  const family = findFamily(config, place);
  const parsed = configSchema.safeParse(config);
  const problems: Problem[] = [];
  for (const issue of parsed.error?.issues ?? []) problems.push(wrongType(config, issue));
  // What has the wrong type is left out, so that the rest is still checked.
  const wrong = new Set(problems.map((problem) => problem.key));
  const right = Object.entries(config as object).filter(([key]) => !wrong.has(key));
  const fields: Fields = partialSchema.parse(Object.fromEntries(right));

  problems.push(...findUnsupported(fields, family));
  const sizes = toDims(fields, family, name);
  const { kinds, problems: kindProblems, notes } = layerKinds(fields, sizes);
  problems.push(...kindProblems);
  const said = findQuantisation(fields);
  const quantised = said && !isRefused(said.read) ? said.read : undefined;
  const dims = { ...sizes, ...kinds, ...weightsOf(sizes, quantised) };
  const inDims = [...findProblems(dims, configKeys), ...findScalingProblems(dims, configKeys)];
  problems.push(...inDims.filter((problem) => !wrong.has(problem.key)));
  const disagreements = findDisagreements(fields);
  problems.push(...disagreements.problems);
  if (problems.length > 0) throw refusal(place, problems, family);
  const more = [
    ...(said?.otherKey
      ? [`${said.key} and ${said.otherKey} differ: ${said.key} counts, as in transformers`]
      : []),
    ...(quantised?.roundsMore
      ? ['its quantisation rounds activations or the cache, too: they are not rounded here']
      : []),
  ];
  return { dims, notes: [...disagreements.notes, ...notes, ...more].map((note) => `${place}: ${note}`) };
}

/** What the file says of quantised weights. */
function findQuantisation(fields: Fields) {
  const said = quantisationSaid(fields);
  return said && { ...said, read: readQuantisation(said.value, said.key) };
}

/** Formats of a checkpoint whose codes are the levels of blocks; nothing for others: they become numbers. */
function weightsOf(
  { dtype, hidden, ffn, qHeads, headDim }: Omit<ModelDims, 'kinds' | 'pattern'>,
  quantised: Quantisation | undefined,
): Pick<ModelDims, 'weights'> {
  if (!quantised || quantised.isPartial) return {};
  const { format, bits, group, symmetric } = quantised;
  if (!symmetric && bits === 8) return {};
  const whole = [group.columns ?? hidden, hidden, ffn, qHeads * headDim];
  const isFloat = format === 'fp8' || format === 'float-quantized';
  const layers = isFloat ? 'fp8' : bits === 8 ? 'int8' : symmetric ? 'int4' : 'int4-asym';
  if (whole.some((columns) => columns % blockFormats[layers].group !== 0)) return {};
  return { weights: { layers, embedding: dtype, head: dtype } };
}

const rope = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: z.number().nullish(),
  factor: z.number().nullish(),
  low_freq_factor: z.number().nullish(),
  high_freq_factor: z.number().nullish(),
  original_max_position_embeddings: z.number().nullish(),
  beta_fast: z.number().nullish(),
  beta_slow: z.number().nullish(),
  attention_factor: z.number().nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().nullish(),
  short_factor: z.array(z.number()).nullish(),
  long_factor: z.array(z.number()).nullish(),
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
  sliding_window: z.number().nullish(),
  max_window_layers: z.number().nullish(),
  layer_types: z.array(z.string()).nullish(),
  no_rope_layers: z.array(z.union([z.number(), z.boolean()])).nullish(),
  no_rope_layer_interval: z.number().nullish(),
  original_max_position_embeddings: z.number().nullish(),
  embedding_multiplier: z.number().nullish(),
  residual_multiplier: z.number().nullish(),
  attention_multiplier: z.number().nullish(),
  logits_scaling: z.number().nullish(),
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
  rotated: 'partial_rotary_factor',
  vocab: 'vocab_size',
  maxPositions: 'max_position_embeddings',
  normEps: 'rms_norm_eps',
  ropeTheta: 'rope_theta',
  factor: 'factor',
  lowFreqFactor: 'low_freq_factor',
  highFreqFactor: 'high_freq_factor',
  originalPositions: 'original_max_position_embeddings',
  betaFast: 'beta_fast',
  betaSlow: 'beta_slow',
  attention: 'attention_factor',
  shortFactors: 'short_factor',
  longFactors: 'long_factor',
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
  if (family === undefined) throw refusal(place, [unsupportedFamily('model_type', type)], type);
  const name = familyFacts[family].architecture;
  // Embedding models are saved without their head, as the base model.
  const known = [`${name}ForCausalLM`, `${name}Model`];
  if (
    architectures !== undefined &&
    architectures !== null &&
    !known.some((one) => (architectures as unknown[]).includes?.(one))
  ) {
    throw refusal(place, [unsupported('architectures', architectures, known)], type);
  }
  return family;
}

const multipliers = [
  ...(['embedding_multiplier', 'residual_multiplier'] as const),
  ...(['attention_multiplier', 'logits_scaling'] as const),
];

function findUnsupported(fields: Fields, family: ModelDims['family']): Problem[] {
  const problems: Problem[] = [];
  const [dtype] = spelled(fields, 'dtype');
  if (dtype === undefined) {
    const hint = `Add the type that the weights are stored in, such as "dtype": "bfloat16".`;
    problems.push({ key: 'dtype', text: 'dtype is missing', hint });
  } else if (!Object.hasOwn(torchDtypes, String(dtype.value))) {
    problems.push({ ...unsupported(dtype.key, dtype.value, Object.keys(torchDtypes)), hint: bfloat16Hint });
  }
  const quantisation = findQuantisation(fields);
  if (quantisation && isRefused(quantisation.read))
    problems.push({ key: quantisation.key, ...quantisation.read });
  if (typeof fields['text_config'] === 'object' && fields['text_config'] !== null) {
    const text = 'text_config holds a second configuration, as models of images and sound have it';
    problems.push({ key: 'text_config', text, hint: otherModel, isUnsupported: true });
  }
  if ((fields.hidden_act ?? 'silu') !== 'silu') {
    problems.push(unsupported('hidden_act', fields.hidden_act, ['silu']));
  }
  // Qwen2 has no such key: its q, k and v always have a bias, and nothing else has.
  if (fields.attention_bias && !familyFacts[family].qkvBias)
    problems.push(unsupported('attention_bias', true, [false]));
  if (fields.mlp_bias && familyFacts[family].mlpBias) problems.push(unsupported('mlp_bias', true, [false]));

  const { key, parameters, type } = readRope(fields, family);
  if (type !== 'default' && !isScalingType(type)) {
    const hint = `Take the scaling out of ${key} if the context that the model was trained on is enough.`;
    problems.push({ ...unsupported(`${key}.rope_type`, type, ['default', ...scalingTypes]), hint });
  }
  if (type === 'yarn' && parameters.truncate === false)
    problems.push(unsupported(`${key}.truncate`, false, [true]));
  const nested = Object.keys(parameters).find(
    (one) => typeof parameters[one] === 'object' && parameters[one] !== null && !factorLists.includes(one),
  );
  if (nested !== undefined) {
    const text = `${key}.${nested} gives rotary parameters to some layers, and all layers must share them`;
    problems.push({ key, text, hint: otherModel, isUnsupported: true });
  }
  const { partlyRotated, multiplies } = familyFacts[family];
  for (const one of multiplies ? multipliers : []) {
    const value = fields[one] ?? 1;
    if (!isFactor(value)) problems.push({ key: one, text: `${one} ${factorText(value)}`, hint: copyAgain });
  }
  for (const { key: place, value } of partlyRotated ? [] : spelled(fields, 'partialRotary')) {
    if (value !== 1) problems.push(unsupported(place.split('.').at(-1)!, value, [1]));
  }
  return problems;
}

/** A number for each pair of a head. */
const factorLists = ['short_factor', 'long_factor'];

function readRope(fields: Fields, family: ModelDims['family']) {
  const { rope: key } = ropeKeys(fields);
  const parameters = key === 'rope_scaling' ? fields.rope_scaling : fields.rope_parameters;
  // A factor without a type would silently not be applied.
  const unnamed = spelled(fields, 'factor').length > 0 ? 'none' : 'default';
  const said = String(spelled(fields, 'ropeType')[0]?.value ?? unnamed);
  // Older files of Phi-3 have these names for it.
  const type = family === 'phi3' && (said === 'su' || said === 'yarn') ? 'longrope' : said;
  return { key, parameters: parameters ?? {}, type };
}

/** The number that counts for a setting. */
function numberOf(fields: Fields, setting: Setting): number | undefined {
  const [found] = spelled(fields, setting);
  return typeof found?.value === 'number' ? found.value : undefined;
}

/** Dims with NaN for what is missing: findProblems says what is wrong with them. */
function toDims(
  fields: Fields,
  family: ModelDims['family'],
  name: string,
): Omit<ModelDims, 'kinds' | 'pattern'> {
  const hidden = fields.hidden_size ?? Number.NaN;
  const qHeads = fields.num_attention_heads ?? Number.NaN;
  const { missing, qkNorm, qkvBias, partlyRotated, multiplies } = familyFacts[family];
  // null means one for each query head, whatever an absent key means.
  const kvHeads = fields.num_key_value_heads === undefined ? (missing.kvHeads ?? qHeads) : qHeads;
  const headDim = fields.head_dim ?? missing.headDim ?? hidden / qHeads;
  const part = partlyRotated ? (numberOf(fields, 'partialRotary') ?? 1) : 1;
  const normEps = fields.rms_norm_eps ?? missing.normEps;
  return {
    name,
    family,
    dtype: torchDtypes[fields.dtype ?? fields.torch_dtype ?? ''] ?? 'bf16',
    layers: fields.num_hidden_layers ?? Number.NaN,
    hidden,
    ffn: fields.intermediate_size ?? Number.NaN,
    qHeads,
    kvHeads: fields.num_key_value_heads ?? kvHeads,
    headDim,
    // As Phi3's rotary embedding counts them.
    ...(part !== 1 && { rotated: Math.trunc(headDim * part) }),
    vocab: fields.vocab_size ?? Number.NaN,
    maxPositions: fields.max_position_embeddings ?? Number.NaN,
    normEps,
    ropeTheta: numberOf(fields, 'ropeTheta') ?? missing.ropeTheta,
    ropeScaling: toScaling(fields, family),
    qkNorm,
    qkvBias,
    tiedHead: fields.tie_word_embeddings ?? missing.tiedHead,
    ...(multiplies && inEmbeddings(normEps, scalesOf(fields))),
  };
}

/** Without its keys Granite multiplies by 1, scores too. */
const scalesOf = (fields: Fields): Scales => ({
  embedding: fields.embedding_multiplier ?? 1,
  branch: fields.residual_multiplier ?? 1,
  scores: fields.attention_multiplier ?? 1,
  logits: fields.logits_scaling ?? 1,
});

function toScaling(fields: Fields, family: ModelDims['family']): RopeScaling | null {
  const { type, parameters } = readRope(fields, family);
  const of = (setting: Setting) => numberOf(fields, setting);
  return scalingOf(type, {
    ...{ factor: of('factor'), originalPositions: of('originalPositions') },
    ...{ lowFreqFactor: of('lowFreqFactor'), highFreqFactor: of('highFreqFactor') },
    ...{ betaFast: of('betaFast'), betaSlow: of('betaSlow'), attention: of('attentionFactor') },
    ...{ mscale: parameters.mscale ?? undefined, mscaleAllDim: parameters.mscale_all_dim ?? undefined },
    shortFactors: parameters.short_factor ?? undefined,
    longFactors: parameters.long_factor ?? undefined,
    maxPositions: fields.max_position_embeddings,
  });
}

function wrongType(config: unknown, issue: z.core.$ZodIssue): Problem {
  const value = issue.path.reduce((at: unknown, key) => (at as Record<PropertyKey, unknown>)?.[key], config);
  const expected = issue.code === 'invalid_type' ? issue.expected : 'valid';
  const text = value === undefined ? 'is missing' : `is ${show(value)}, must be a ${expected}`;
  return { key: String(issue.path[0]), text: `${issue.path.join('.')} ${text}`, hint: copyAgain };
}
