// Dims out of the metadata of a GGUF file.
import { type GgufFile, readGguf } from '../../gguf/header.ts';
import { readLongRope, readRopeScaling } from '../../gguf/rope-scaling.ts';
import { scalingKeysOf } from '../../gguf/scaled-positions.ts';
import { readShape, shapeKeys } from '../../gguf/shape.ts';
import { checkpointTensorsOf } from '../../gguf/tensors.ts';
import type { ModelDims } from './dims.ts';
import { dimsKeys, findProblems, type Keys, refusal } from './dims-problems.ts';
import { familyFacts } from './families.ts';
import type { Dtype, Format } from './formats.ts';
import { layerKinds } from './layer-kinds.ts';
import { findScalingProblems } from './rope-scaling.ts';

/** Dims of the model in a file, its tensors checked against them. @throws OnelaunchError of kind usage */
export function readGgufDims(path: string, name: string): ModelDims {
  const file = readGguf(path);
  const shape = readShape(file);
  const { architecture, window, scaled, ...sizes } = shape;
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
    tiedHead: !file.tensors.has('output.weight'),
    ...weightsOf(file),
  };
  const problems = [...findProblems(plain, keys), ...findScalingProblems(plain, keys)];
  if (problems.length > 0) throw refusal(path, problems);
  checkpointTensorsOf(file, shape);
  return { ...plain, ropeScaling: readLongRope(file, shape) ?? readRopeScaling(file, shape) ?? scaled };
}

/** Blocks that a format is made of, number for number. */
const blockTypes: Readonly<Record<string, Format>> = { Q8_0: 'int8', Q4_0: 'int4' };

/** Formats of a file whose layers are all of one that is in blocks; nothing for others. Embedding and head in other blocks are int8, whose
 *  steps are finer than those of the file, and half the bytes of numbers. */
function weightsOf(file: GgufFile): Pick<ModelDims, 'weights'> {
  const formatOf = (wanted: RegExp): Format | undefined => {
    const matrices = [...file.tensors].filter(([name, { shape }]) => wanted.test(name) && shape.length > 1);
    const formats = new Set(matrices.map(([, { type }]) => blockTypes[type.name]));
    return formats.size === 1 ? [...formats][0] : undefined;
  };
  const layers = formatOf(/^blk\./);
  if (layers === undefined) return {};
  const outer = (name: string, wanted: RegExp): Format =>
    formatOf(wanted) ?? (file.tensors.get(name)!.type.elements > 1 ? 'int8' : dtypeOf(file));
  const embedding = outer('token_embd.weight', /^token_embd\./);
  const head = file.tensors.has('output.weight') ? outer('output.weight', /^output\./) : embedding;
  return { weights: { layers, embedding, head } };
}

const plainTypes: Readonly<Record<string, Dtype>> = { BF16: 'bf16', F16: 'fp16', F32: 'fp32' };

/** That of the matrices; bf16 for quantised ones, and for several plain types the one that holds them all. */
function dtypeOf({ tensors }: GgufFile): Dtype {
  const matrices = [...tensors.values()].filter(({ shape }) => shape.length > 1);
  const types = [...new Set(matrices.map(({ type }) => plainTypes[type.name] ?? 'bf16'))];
  if (matrices.some(({ type }) => type.elements > 1)) return 'bf16';
  return types.length === 1 ? types[0]! : 'fp32';
}
