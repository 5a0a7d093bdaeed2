// What quantization_config of a config.json says of the weights: which format, and which numbers share a scale.
import { z } from 'zod';

/** How the matrices of a checkpoint are stored. Names are those of quant_method, and of format in compressed-tensors. */
export interface Quantisation {
  readonly format: 'fp8' | 'gptq' | 'awq' | 'pack-quantized' | 'int-quantized' | 'float-quantized';
  readonly bits: 4 | 8;
  /** Rows and columns that share a scale; null: all of the matrix. */
  readonly group: { readonly rows: number | null; readonly columns: number | null };
  /** The zero point of all codes is their middle, as the file says: that of GPTQ, which has them, may be another. */
  readonly symmetric: boolean;
  /** What is added to a stored zero point: AutoGPTQ stores one less. */
  readonly zerosAdded: 0 | 1;
  /** Some matrices of the layers are left as they were. */
  readonly isPartial: boolean;
  /** Activations or the cache are to be rounded, too: they are not here. */
  readonly roundsMore: boolean;
}

/** Why a file is refused, and what to do. */
export interface Refused {
  readonly text: string;
  readonly hint: string;
  /** It is whole, and names what is not read. */
  readonly isUnsupported?: true;
}

const useOther =
  'Use the unquantized checkpoint of this model, or one in fp8, GPTQ or AWQ of 4 bits, or compressed-tensors of int4, int8 or fp8.';

/** The keys of the object in a config.json: that of now, and that of older files of compressed-tensors. The first that is there counts, as in transformers. */
const keys = ['quantization_config', 'compression_config'] as const;

/** What a config.json says of quantised weights, under which key, and what it says otherwise under the other one. */
export function quantisationSaid(
  config: Readonly<Record<string, unknown>>,
): { readonly key: string; readonly value: unknown; readonly otherKey: string | null } | undefined {
  const [said, other] = keys
    .map((key) => ({ key, value: config[key] ?? null }))
    .filter(({ value }) => value !== null);
  if (said === undefined) return undefined;
  const differs = other !== undefined && JSON.stringify(other.value) !== JSON.stringify(said.value);
  return { ...said, otherKey: differs ? other.key : null };
}

/** @param key the name of the object in config.json, for refusals */
export function readQuantisation(config: unknown, key: string): Quantisation | Refused {
  const refuse = (text: string, hint = useOther): Refused => ({ text: `${key}${text}`, hint });
  const unsupported = (text: string, hint = useOther): Refused => ({
    ...refuse(text, hint),
    isUnsupported: true,
  });
  const parsed = z.looseObject({ quant_method: z.string() }).safeParse(config);
  if (!parsed.success) return refuse('.quant_method is missing, which names the format of the weights');
  const method = parsed.data.quant_method;
  const read = Object.hasOwn(readers, method) ? readers[method] : undefined;
  if (read === undefined)
    return unsupported(
      `.quant_method is ${shown(method)}, supported: ${Object.keys(readers).slice(0, 4).join(', ')}`,
    );
  try {
    return read(config);
  } catch (error) {
    if (error instanceof Unread) return unsupported(`.${error.message}`, error.hint);
    if (!(error instanceof z.ZodError)) throw error;
    const [issue] = error.issues;
    const place = issue!.path.join('.');
    const found = issue!.path.reduce(
      (at: unknown, name) => (at as Record<PropertyKey, unknown>)?.[name],
      config,
    );
    const what = found === undefined ? 'is missing' : `is ${shown(found)}, which is not valid there`;
    return refuse(`.${place} ${what}`, "Compare with the file in the model's own repository.");
  }
}

export const isRefused = (read: Quantisation | Refused): read is Refused => 'hint' in read;

/** The words of a file, without the key that stands before them. */
class Unread extends Error {
  readonly hint: string;
  constructor(key: string, value: unknown, legal: string, hint = useOther) {
    super(`${key} is ${shown(value)}, supported: ${legal}`);
    this.hint = hint;
  }
}

const shown = (value: unknown) => JSON.stringify(value)?.slice(0, 60) ?? 'nothing';
const size = z.int().positive();
const names = z.array(z.string()).nullish();

/** Whether names of modules are left out that are not head, embedding or norms. */
const isPartial = (left: readonly string[] | null | undefined) =>
  (left ?? []).some((name) => !/lm_head|embed_tokens|norm/.test(name));

const readers: Readonly<Record<string, (config: unknown) => Quantisation>> = {
  fp8: (config) => {
    const read = z
      .looseObject({
        fmt: z.string().nullish(),
        weight_block_size: z.tuple([size, size]).nullish(),
        modules_to_not_convert: names,
      })
      .parse(config);
    if ((read.fmt ?? 'e4m3') !== 'e4m3') throw new Unread('fmt', read.fmt, 'e4m3');
    const [rows, columns] = read.weight_block_size ?? [null, null];
    return {
      ...{ format: 'fp8', bits: 8, group: { rows, columns }, symmetric: true, zerosAdded: 0 },
      ...{ isPartial: isPartial(read.modules_to_not_convert), roundsMore: true },
    };
  },
  gptq: (config) => {
    const read = z
      .looseObject({
        bits: z.number(),
        group_size: z.int(),
        desc_act: z.boolean().nullish(),
        sym: z.boolean().nullish(),
        checkpoint_format: z.string().nullish(),
        dynamic: z.record(z.string(), z.unknown()).nullish(),
        modules_in_block_to_quantize: z.unknown().optional(),
      })
      .parse(config);
    const { bits, checkpoint_format: format } = read;
    if (Object.keys(read.dynamic ?? {}).length > 0)
      throw new Unread('dynamic', read.dynamic, 'one setting for all matrices');
    if (bits !== 4 && bits !== 8) throw new Unread('bits', bits, '4, 8');
    if (read.desc_act) {
      const hint =
        'Its columns are in the order of their activations: use a checkpoint made with desc_act false.';
      throw new Unread('desc_act', true, 'false', hint);
    }
    if (format && format !== 'gptq' && format !== 'gptq_v2')
      throw new Unread('checkpoint_format', format, 'gptq, gptq_v2');
    return {
      ...{ format: 'gptq', bits, group: { rows: 1, columns: groupOf(read.group_size) } },
      ...{ symmetric: read.sym === true, zerosAdded: format === 'gptq_v2' ? 0 : 1 },
      ...{ isPartial: (read.modules_in_block_to_quantize ?? null) !== null, roundsMore: false },
    };
  },
  awq: (config) => {
    const read = z
      .looseObject({
        bits: z.number(),
        group_size: z.int(),
        version: z.string().nullish(),
        zero_point: z.boolean().nullish(),
        modules_to_not_convert: names,
      })
      .parse(config);
    if (read.bits !== 4) throw new Unread('bits', read.bits, '4');
    if ((read.version ?? 'gemm').toLowerCase() !== 'gemm') throw new Unread('version', read.version, 'gemm');
    if (read.zero_point === false) throw new Unread('zero_point', false, 'true');
    return {
      ...{ format: 'awq', bits: 4, group: { rows: 1, columns: groupOf(read.group_size) }, symmetric: false },
      ...{ zerosAdded: 0, isPartial: isPartial(read.modules_to_not_convert), roundsMore: false },
    };
  },
  'compressed-tensors': compressed,
  compressed_tensors: compressed,
};

/** -1 is a group for each row. */
function groupOf(columns: number): number | null {
  if (columns === -1) return null;
  if (columns < 8 || columns % 8 !== 0) throw new Unread('group_size', columns, '-1, or a multiple of 8');
  return columns;
}

const weightsSchema = z.looseObject({
  num_bits: z.number(),
  type: z.string(),
  symmetric: z.boolean(),
  strategy: z.string().nullish(),
  group_size: z.int().nullish(),
  block_structure: z.tuple([size, size]).nullish(),
  actorder: z.unknown().optional(),
});

/** Where a rotation is applied that is part of the weights, as they are stored; all others turn activations or the cache. */
const ofWeights = ['weight_input', 'weight_output'];
const transforms = z.looseObject({
  config_groups: z
    .record(z.string(), z.looseObject({ apply: z.array(z.looseObject({ location: z.string() })) }))
    .nullish(),
});

/** @throws Unread for rotations that a model computes while it runs, without which its weights are of another model.
 *  Source: TransformLocation of compressed-tensors. */
function refuseTransforms(config: z.infer<typeof transforms> | null | undefined): void {
  for (const [name, { apply }] of Object.entries(config?.config_groups ?? {})) {
    const at = apply.findIndex(({ location }) => !ofWeights.includes(location));
    if (at < 0) continue;
    const key = `transform_config.config_groups.${name}.apply.${at}.location`;
    throw new Unread(key, apply[at]!.location, ofWeights.join(', '));
  }
}

function compressed(config: unknown): Quantisation {
  const group = z.looseObject({
    weights: weightsSchema,
    input_activations: z.unknown().optional(),
    output_activations: z.unknown().optional(),
  });
  const read = z
    .looseObject({
      format: z.string(),
      config_groups: z.record(z.string(), group),
      ignore: names,
      kv_cache_scheme: z.unknown().optional(),
      sparsity_config: z.looseObject({ format: z.string().nullish() }).nullish(),
      transform_config: transforms.nullish(),
    })
    .parse(config);
  const { format, config_groups: groups } = read;
  if (format !== 'pack-quantized' && format !== 'int-quantized' && format !== 'float-quantized')
    throw new Unread('format', format, 'pack-quantized, int-quantized, float-quantized');
  const sparse = read.sparsity_config?.format;
  if (sparse && sparse !== 'dense') throw new Unread('sparsity_config.format', sparse, 'dense');
  refuseTransforms(read.transform_config);
  const [first, ...others] = Object.entries(groups);
  if (first === undefined || others.length > 0)
    throw new Unread('config_groups', Object.keys(groups), 'one group');
  const [name, { weights, input_activations, output_activations }] = first;
  const at = (key: string) => `config_groups.${name}.weights.${key}`;
  const { num_bits: bits, type } = weights;
  const wanted = format === 'float-quantized' ? 'float' : 'int';
  if (type !== wanted) throw new Unread(at('type'), type, `${wanted} in ${format}`);
  const isLegal = bits === 8 || (bits === 4 && format === 'pack-quantized');
  if (wanted === 'float' && !weights.symmetric)
    throw new Unread(at('symmetric'), false, 'true in float-quantized');
  if (!isLegal) throw new Unread(at('num_bits'), bits, format === 'pack-quantized' ? '4, 8' : '8');
  if (weights.actorder === 'group' || weights.actorder === 'dynamic' || weights.actorder === true) {
    const hint = 'Its columns are in the order of their activations: use a checkpoint made without it.';
    throw new Unread(at('actorder'), weights.actorder, 'null, "weight"', hint);
  }
  return {
    ...{
      format,
      bits: bits as 4 | 8,
      group: groupsOf(weights, at),
      symmetric: weights.symmetric,
      zerosAdded: 0,
    },
    isPartial: isPartial(read.ignore),
    roundsMore: [input_activations, output_activations, read.kv_cache_scheme].some(
      (one) => (one ?? null) !== null,
    ),
  };
}

function groupsOf(
  weights: z.infer<typeof weightsSchema>,
  at: (key: string) => string,
): Quantisation['group'] {
  const { strategy = null, group_size: columns, block_structure: block } = weights;
  switch (strategy) {
    case 'tensor':
      return { rows: null, columns: null };
    case 'channel':
      return { rows: 1, columns: null };
    case 'group':
      if (!columns || columns < 8 || columns % 8 !== 0)
        throw new Unread(at('group_size'), columns ?? null, 'a multiple of 8');
      return { rows: 1, columns };
    case 'block':
      if (!block) throw new Unread(at('block_structure'), null, 'two sizes');
      return { rows: block[0], columns: block[1] };
    default:
      throw new Unread(at('strategy'), strategy, 'tensor, channel, group, block');
  }
}
