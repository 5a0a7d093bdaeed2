// Dims out of the metadata of a GGUF file.
import { type GgufFile, readGguf } from '../../gguf/header.ts';
import { readLongRope, readRopeScaling } from '../../gguf/rope-scaling.ts';
import { scalingKeysOf } from '../../gguf/scaled-positions.ts';
import { readShape, shapeKeys } from '../../gguf/shape.ts';
import { checkpointTensorsOf } from '../../gguf/tensors.ts';
import type { ModelDims } from './dims.ts';
import { dimsKeys, findProblems, type Keys, refusal } from './dims-problems.ts';
import { findFactorProblems, inEmbeddings } from './factors.ts';
import { familyFacts } from './families.ts';
import { blockFormats, type Dtype, type Format, isBlocks } from './formats.ts';
import { layerKinds } from './layer-kinds.ts';
import { findScalingProblems } from './rope-scaling.ts';

/** Dims of the model in a file, its tensors checked against them. @throws OnelaunchError of kind usage */
export function readGgufDims(path: string, name: string): ModelDims {
  const file = readGguf(path);
  const shape = readShape(file);
  const { architecture, window, scaled, scales, ...sizes } = shape;
  const keys: Keys = {
    ...dimsKeys,
    ...Object.fromEntries(
      Object.entries({ ...shapeKeys, ...scalingKeysOf }).map(([key, spelled]) => [
        key,
        `${architecture}.${spelled}`,
      ]),
    ),
    vocab: 'token_embd.weight, whose rows are the vocabulary,',
  };
  const { qkNorm, qkvBias } = familyFacts[architecture];
  const plain: ModelDims = {
    ...{ name, family: architecture, dtype: dtypeOf(file), ...sizes, ropeScaling: scaled },
    // What a file does not say has its default: a window is refused, and llama.cpp leaves every fourth layer of SmolLM3 unrotated.
    ...layerKinds({ sliding_window: window }, { family: architecture, ...sizes }).kinds,
    ...{ qkNorm, qkvBias },
    ...(scales && inEmbeddings(sizes.normEps, scales)),
    tiedHead: !file.tensors.has('output.weight'),
    ...weightsOf(file),
  };
  const problems = [
    ...findProblems(plain, keys),
    ...findScalingProblems(plain, keys),
    ...findFactorProblems(plain),
  ];
  if (problems.length > 0) throw refusal(path, problems);
  checkpointTensorsOf(file, shape);
  return { ...plain, ropeScaling: readLongRope(file, shape) ?? readRopeScaling(file, shape) ?? scaled };
}

/** Types of blocks by the format that has their numbers; of those that none has, int8 has finer steps than they do. */
const blockTypes: Readonly<Record<string, Format>> = {
  Q8_0: 'int8',
  Q4_0: 'int4',
  Q4_1: 'int4-asym',
  Q4_K: 'int4-asym',
};

/** Matrices that are one product in a kernel, whose format is one in all layers. */
const products = {
  layers: /^blk\.\d+\.(?:attn_output|ffn_gate|ffn_up)\.weight$/,
  qkv: /^blk\.\d+\.attn_(?:q|k|v|qkv)\.weight$/,
  down: /^blk\.\d+\.ffn_down\.weight$/,
  embedding: /^token_embd\.weight$/,
  head: /^output\.weight$/,
} as const;

/** Formats of a file whose layers are in blocks; nothing for others. Beside products of 4 bits, which lose more, one with numbers in it is int8. */
function weightsOf(file: GgufFile): Pick<ModelDims, 'weights'> {
  /** Null: of no format in blocks. */
  const formatOf = (wanted: RegExp): Format | null => {
    const types = [...file.tensors].filter(([name]) => wanted.test(name)).map(([, { type }]) => type);
    if (types.some(({ elements }) => elements === 1)) return null;
    const formats = new Set(types.map(({ name }) => blockTypes[name] ?? 'int8'));
    if (formats.size === 1) return [...formats][0]!;
    return formats.has('int8') ? 'int8' : 'int4-asym';
  };
  const found = [products.layers, products.qkv, products.down].map(formatOf);
  const hasFours = found.some((format) => format && isBlocks(format) && blockFormats[format].bits === 4);
  const [layers, qkv, down] = found.map((format) => format ?? (hasFours ? 'int8' : null));
  if (!layers || !qkv || !down) return {};
  const embedding = formatOf(products.embedding) ?? dtypeOf(file);
  const head = file.tensors.has('output.weight') ? (formatOf(products.head) ?? dtypeOf(file)) : embedding;
  return {
    weights: { layers, ...(qkv !== layers && { qkv }), ...(down !== layers && { down }), embedding, head },
  };
}

const plainTypes: Readonly<Record<string, Dtype>> = { BF16: 'bf16', F16: 'fp16', F32: 'fp32' };

/** That of the matrices; bf16 for quantised ones, and for several plain types the one that holds them all. */
function dtypeOf({ tensors }: GgufFile): Dtype {
  const matrices = [...tensors.values()].filter(({ shape }) => shape.length > 1);
  const types = [...new Set(matrices.map(({ type }) => plainTypes[type.name] ?? 'bf16'))];
  if (matrices.some(({ type }) => type.elements > 1)) return 'bf16';
  return types.length === 1 ? types[0]! : 'fp32';
}
