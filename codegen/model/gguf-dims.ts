// Dims out of the metadata of a GGUF file.
import { type GgufFile, readGguf } from '../../gguf/header.ts';
import { readRopeScaling } from '../../gguf/rope-scaling.ts';
import { readShape, shapeKeys } from '../../gguf/shape.ts';
import { checkpointTensorsOf } from '../../gguf/tensors.ts';
import type { Dtype, ModelDims } from './dims.ts';
import { dimsKeys, findProblems, type Keys, refusal } from './dims-problems.ts';
import { oneKind } from './kinds.ts';

/** Dims of the model in a file, its tensors checked against them. @throws OnelaunchError of kind usage */
export function readGgufDims(path: string, name: string): ModelDims {
  const file = readGguf(path);
  const shape = readShape(file);
  const { architecture, ...sizes } = shape;
  const keys: Keys = {
    ...dimsKeys,
    ...Object.fromEntries(
      Object.entries(shapeKeys).map(([key, spelled]) => [key, `${architecture}.${spelled}`]),
    ),
    vocab: 'token_embd.weight, whose rows are the vocabulary,',
  };
  const plain: ModelDims = {
    ...{ name, family: architecture, dtype: dtypeOf(file), ...sizes, ropeScaling: null, ...oneKind },
    qkNorm: architecture === 'qwen3',
    qkvBias: architecture === 'qwen2',
    tiedHead: !file.tensors.has('output.weight'),
  };
  const problems = findProblems(plain, keys);
  if (problems.length > 0) throw refusal(path, problems);
  checkpointTensorsOf(file, shape);
  return { ...plain, ropeScaling: readRopeScaling(file, shape) };
}

const plainTypes: Readonly<Record<string, Dtype>> = { BF16: 'bf16', F16: 'fp16', F32: 'fp32' };

/** That of the matrices; bf16 for quantised ones, and for several plain types the one that holds them all. */
function dtypeOf({ tensors }: GgufFile): Dtype {
  const matrices = [...tensors.values()].filter(({ shape }) => shape.length > 1);
  const types = [...new Set(matrices.map(({ type }) => plainTypes[type.name] ?? 'bf16'))];
  if (matrices.some(({ type }) => type.elements > 1)) return 'bf16';
  return types.length === 1 ? types[0]! : 'fp32';
}
