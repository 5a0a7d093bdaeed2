// Matrices of a model by their inputs over a text: layer by layer, through the layers that are rounded already.
import { OnelaunchError } from '../errors.ts';
import type { WrittenFormat } from '../quantised/layout.ts';
import { readReferenceModel } from '../runtime/reference/weights.ts';
import type { TensorEntry } from '../runtime/weights/safetensors.ts';
import { embeddingName, shared } from './calibration-part.ts';
import { calibrationTeam, type Team } from './calibration-team.ts';
import { damp, type roundByInputs } from './gptq.ts';

export type Matrix = readonly [name: string, entry: TensorEntry];

type RoundedRows = ReturnType<typeof roundByInputs>;

interface CalibrationWork {
  /** All that are rounded. */
  readonly matrices: readonly Matrix[];
  readonly format: WrittenFormat;
  readonly threads: number;
  /** Ends the work with its reason. */
  readonly signal: AbortSignal;
  /** Rounds one, some rows [width] of it after the other, and gives the numbers that it has then, in shared memory. */
  readonly rounded: (
    matrix: Matrix,
    round: (values: Float32Array, width: number) => Promise<RoundedRows>,
  ) => Promise<Float32Array>;
}

/** Feeds sequences of tokens to the float32 reference, and has each matrix rounded before anything is multiplied by it: once each, in the order of the pass.
 *  Held are a layer's inputs of all tokens and the matrices of one of its products, in float32. @throws OnelaunchError usage where inputs are not finite */
export async function calibrateMatrices(
  directory: string,
  sequences: readonly (readonly number[])[],
  { matrices, format, threads, signal, rounded }: CalibrationWork,
): Promise<void> {
  const stored = new Map(matrices.map((matrix) => [matrix[0].replace(/^(?:model\.)?/, 'model.'), matrix]));
  const isFused = matrices.some(([name]) => fusedNames.some((fused) => name.includes(fused)));
  const embedding = shared(readReferenceModel(directory).tensors(embeddingName));
  const team = calibrationTeam({ directory, sequences, isFused, embedding }, threads);
  const end = () => team.end();
  signal.addEventListener('abort', end, { once: true });
  try {
    for (let [held, left] = [new Map<string, Float32Array>(), matrices.length]; left > 0; left -= held.size) {
      const stops = await team.each('advance', () => [held]);
      const stop = stops.find((one) => one !== null);
      if (stop === undefined) return;
      const { names, width } = stop;
      // In the order of the sequences, so that sums are the same for any number of threads.
      const inputs = sequences.map((_, i) => stops[i % team.parts]!.inputs[Math.floor(i / team.parts)]!);
      const factor = await factorOf(team, inputs, width, names[0]!);
      held = new Map();
      for (const name of new Set(names.map((part) => (stored.has(part) ? part : fusedOf(part))))) {
        const round = (values: Float32Array, columns: number) =>
          roundRows(team, format, values, columns, factor);
        held.set(name, await rounded(stored.get(name)!, round));
      }
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', end);
    team.end();
  }
}

async function factorOf(team: Team, inputs: readonly Float32Array[], width: number, name: string) {
  const square = () => new Float64Array(new SharedArrayBuffer(8 * width * width));
  const [sums, made] = [square(), square()];
  await team.each('products', () => [sums, inputs, width]);
  for (let i = 0; i < width; i++) if (!Number.isFinite(sums[i * width + i]!)) throw notFinite(name);
  damp(sums, width);
  const ready = new Int32Array(new SharedArrayBuffer(4 * width));
  await team.each('factorise', () => [sums, made, ready]);
  return made;
}

/** Rows of a matrix, some by each part. */
async function roundRows(
  team: Team,
  format: WrittenFormat,
  values: Float32Array,
  width: number,
  factor: Float64Array,
): Promise<RoundedRows> {
  const each = Math.ceil(values.length / width / team.parts) * width;
  const made = await team.each('round', (part) => {
    const rows = values.slice(part * each, (part + 1) * each);
    return rows.length === 0 ? null : [format, rows, width, factor];
  });
  const codes = Buffer.concat(made.map((one) => one.codes));
  const scales = new Float64Array(made.reduce((sum, one) => sum + one.scales.length, 0));
  const numbers = new Float32Array(values.length);
  let [scale, number] = [0, 0];
  for (const one of made) {
    scales.set(one.scales, scale);
    numbers.set(one.numbers, number);
    scale += one.scales.length;
    number += one.numbers.length;
  }
  return { codes, scales, numbers };
}

const fusedNames = ['.qkv_proj.', '.gate_up_proj.'] as const;

/** The matrix that has the rows of this one. */
const fusedOf = (part: string) =>
  part.replace(/\.[qkv]_proj\./, fusedNames[0]).replace(/\.(?:gate|up)_proj\./, fusedNames[1]);

const notFinite = (name: string) =>
  new OnelaunchError('usage', `over this text the inputs of ${name} are not finite`, {
    hint: "copy the weights from the model's own repository again, or give another text",
  });
