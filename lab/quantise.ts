// A quantised checkpoint of a model: its matrices as compressed-tensors stores them, all else as it is.
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { readModel } from '../codegen/model/read-config.ts';
import { gather, OnelaunchError } from '../errors.ts';
import { makeFolder } from '../files/make-folder.ts';
import { writeError } from '../files/write-failure.ts';
import { single, smallFilesIn } from '../hub/weights.ts';
import { unfitTensors } from '../preflight.ts';
import { quantisationSaid } from '../quantised/config.ts';
import {
  fp8Rows,
  groupColumns,
  packLevels,
  partsOf,
  quantisationConfig,
  scaleBytes,
  type WrittenFormat,
} from '../quantised/layout.ts';
import { chatTemplate } from '../runtime/chat/chat-template.ts';
import { readJson } from '../runtime/json-file.ts';
import { levelsOfBlocks } from '../runtime/reference/blocks.ts';
import { toFloat32 } from '../runtime/reference/weights.ts';
import { loadTokenizer } from '../runtime/tokenizer/tokenizer.ts';
import { checkpointTensors, settleHead } from '../runtime/weights/checkpoint.ts';
import {
  bytesOf,
  readBytes,
  readTensors,
  safetensorsHeader,
  type TensorEntry,
} from '../runtime/weights/safetensors.ts';
import { breathe } from './breathe.ts';
import { calibrateMatrices, type Matrix } from './calibrate-matrices.ts';
import { readTexts } from './quality-text.ts';

export interface Quantised {
  /** The folder that was written. */
  readonly directory: string;
  /** Matrices that were rounded. */
  readonly matrices: number;
  /** Of all tensors, before and after. */
  readonly bytes: { readonly before: number; readonly after: number };
}

export interface QuantiseOptions {
  readonly format: WrittenFormat;
  /** It is made, or is empty. */
  readonly out: string;
  readonly signal: AbortSignal;
  readonly onBytes?: (done: number, total: number) => void;
  /** Of a calibration. The file is the same for any number. @default as many as the machine has processors */
  readonly threads?: number | undefined;
  /** A text whose activations choose the codes, and how many of its tokens count. Without one each number is rounded to nearest. */
  readonly calibrate?: { readonly path: string; readonly tokens: number } | undefined;
}

/** Writes the checkpoint in a directory anew, with the matrices of its layers rounded. What is not whole is never at `out`.
 *  @throws OnelaunchError; the abort reason of the signal, and then nothing is left */
export async function quantiseCheckpoint(directory: string, options: QuantiseOptions): Promise<Quantised> {
  const out = resolve(options.out);
  refuseTaken(out);
  const work = planOf(directory, options.format);
  await refuseUnfit(directory);
  const sequences = options.calibrate ? sequencesOf(directory, options.calibrate) : [];
  // A folder that is there keeps its place: it may be a link, mounted, or the one that somebody works in.
  const isThere = existsSync(out);
  const folder = writing(out, () => {
    if (!isThere) makeFolder(dirname(out));
    const made = mkdtempSync(isThere ? join(out, '.part-') : join(dirname(out), `.${basename(out)}.part-`));
    // mkdtemp makes folders for their owner alone.
    chmodSync(made, 0o777 & ~process.umask());
    return made;
  });
  try {
    await writeWeights(folder, work, { ...options, out, directory, sequences });
    writing(out, () => {
      const config = { ...work.config, quantization_config: quantisationConfig(options.format) };
      writeFileSync(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
      for (const name of smallFilesIn(directory)) {
        if (name === 'config.json') continue;
        makeFolder(dirname(join(folder, name)));
        copyFileSync(join(directory, name), join(folder, name));
      }
      refuseTaken(out, basename(folder));
      if (isThere) moveInto(out, folder);
      else renameSync(folder, out);
    });
    return {
      directory: out,
      matrices: work.matrices.length,
      bytes: { before: work.before, after: work.after },
    };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

/** The tokens of a text that calibrate. @throws OnelaunchError usage of a folder without a tokenizer, and of a text that is too short */
function sequencesOf(
  directory: string,
  { path, tokens }: { readonly path: string; readonly tokens: number },
): readonly (readonly number[])[] {
  const reader = { tokenizer: loadTokenizer(directory), template: () => chatTemplate(directory) };
  return readTexts(path, reader, tokens).flatMap((text) => text.sequences.map(({ ids }) => ids));
}

/** Moves all that a folder has, last what makes a model of it. */
function moveInto(out: string, folder: string): void {
  const last = 'config.json';
  const names = readdirSync(folder).filter((name) => name !== last);
  for (const name of [...names, last]) renameSync(join(folder, name), join(out, name));
  rmdirSync(folder);
}

/** @param own what is there by our doing */
function refuseTaken(out: string, own?: string): void {
  const refuse = (what: string) =>
    new OnelaunchError('usage', `${out} ${what}`, { hint: 'give a folder that is not there yet: --out DIR' });
  // A link that leads nowhere is there, too.
  if (!existsSync(out)) {
    if (lstatSync(out, { throwIfNoEntry: false })) throw refuse('is a link that leads nowhere');
    return;
  }
  if (!statSync(out).isDirectory()) throw refuse('is there, and is no folder');
  if (readdirSync(out).some((name) => name !== own)) throw refuse('is there, and not empty');
}

/** What fails to write there, in words of the user. */
function writing<T>(out: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw writeError(out, error, {
      full: 'free some space, or give a folder elsewhere: --out DIR',
      other: 'give a folder in one that can be written: --out DIR',
    });
  }
}

/** A tensor of the new file. */
interface Written {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
}

interface Work {
  readonly config: Readonly<Record<string, unknown>>;
  /** The new file's, in its order, with the first byte of each, from its start. */
  readonly header: Buffer;
  readonly offsets: ReadonlyMap<string, number>;
  readonly matrices: readonly Matrix[];
  readonly others: readonly (readonly [string, TensorEntry])[];
  readonly before: number;
  readonly after: number;
}

const plain = ['BF16', 'F16', 'F32'];

/** All that is written, known and checked before the first byte is. @throws OnelaunchError usage */
function planOf(directory: string, format: WrittenFormat): Work {
  const path = join(directory, 'config.json');
  const config = readJson(path) as Record<string, unknown>;
  const quantised = quantisationSaid(config);
  if (quantised !== undefined) {
    throw new OnelaunchError('usage', `${path} has ${quantised.key}: the model is quantised already`, {
      hint: 'give the folder of the unquantised model',
    });
  }
  const tensors = [...readTensors(directory)];
  const isMatrix = ([name, { shape }]: readonly [string, TensorEntry]) =>
    /(^|\.)layers\.\d+\..*_proj\.weight$/.test(name) && shape.length === 2;
  const [matrices, others] = [tensors.filter(isMatrix), tensors.filter((tensor) => !isMatrix(tensor))];
  if (matrices.length === 0) {
    throw new OnelaunchError('usage', `${directory} has no matrices of layers`, {
      hint: 'give the folder of a model',
    });
  }
  for (const [name, { file, dtype, shape }] of matrices) {
    const refuse = (what: string, hint: string) =>
      new OnelaunchError('usage', `${file} has ${name} ${what}`, { hint });
    if (!plain.includes(dtype))
      throw refuse(`as ${dtype}, supported: ${plain.join(', ')}`, 'give the unquantised model');
    if (format !== 'fp8' && shape[1]! % groupColumns !== 0)
      throw refuse(
        `with ${shape[1]} columns, which are not whole groups of ${groupColumns}`,
        '--weights fp8 has a scale for each row',
      );
  }
  const written: Written[] = others.map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  for (const [name, { shape }] of matrices) {
    for (const part of Object.values(partsOf(format, shape[0]!, shape[1]!)))
      written.push({ ...part, name: partName(name, part.name) });
  }
  // Large elements first, so that all are aligned.
  written.sort((a, b) => bytesOf(b.dtype, [1]) - bytesOf(a.dtype, [1]));
  const { header, offsets, end } = safetensorsHeader(written);
  const before = tensors.reduce((sum, [, { bytes }]) => sum + bytes, 0);
  return { config, header, offsets, matrices, others, before, after: end - header.length };
}

/** Refuses weights that the model of config.json could not be loaded from: their checkpoint would be no better.
 *  @throws OnelaunchError usage, with all that is wrong */
async function refuseUnfit(directory: string): Promise<void> {
  const { dims } = readModel(directory);
  const errors = await unfitTensors(dims, settleHead(checkpointTensors(directory), dims.tiedHead));
  if (errors.length > 0) throw gather(errors);
}

const partName = (matrix: string, part: string) => matrix.replace(/weight$/, part);

/** Numbers that are rounded at once: a stop waits for no more. */
const strip = 1 << 20;

interface WriteOptions extends QuantiseOptions {
  readonly directory: string;
  /** Tokens that calibrate; none: nothing does. */
  readonly sequences: readonly (readonly number[])[];
}

async function writeWeights(
  folder: string,
  work: Work,
  { out, format, signal, onBytes, directory, sequences, threads = availableParallelism() }: WriteOptions,
): Promise<void> {
  const file = writing(out, () => openSync(join(folder, single), 'wx'));
  let done = 0;
  const write = (bytes: Uint8Array, position: number) =>
    writing(out, () => {
      for (let at = 0; at < bytes.length; )
        at += writeSync(file, bytes, at, bytes.length - at, position + at);
    });
  /** After so many bytes of the old file. */
  const step = async (bytes: number) => {
    done += bytes;
    onBytes?.(done, work.before);
    await breathe(signal);
  };
  try {
    write(work.header, 0);
    for (const [name, entry] of work.others) {
      for (let at = 0; at < entry.bytes; at += 4 * strip) {
        const bytes = readBytes(entry, at, Math.min(4 * strip, entry.bytes - at));
        write(bytes, work.offsets.get(name)! + at);
        await step(bytes.length);
      }
    }
    const written = new Set<string>();
    const writeMatrix = async ([name, entry]: Matrix, round: Round) => {
      written.add(name);
      const [rows, columns] = entry.shape as readonly [number, number];
      const parts = partsOf(format, rows, columns);
      const begin = (part: { readonly name: string }) => work.offsets.get(partName(name, part.name))!;
      if (parts.shape)
        write(new Uint8Array(BigInt64Array.of(BigInt(rows), BigInt(columns)).buffer), begin(parts.shape));
      let [codesAt, scalesAt] = [begin(parts.codes), begin(parts.scales)];
      const atOnce = Math.max(1, Math.floor(strip / columns));
      for (let row = 0; row < rows; row += atOnce) {
        const count = Math.min(atOnce, rows - row);
        const width = entry.bytes / rows;
        const { buffer } = readBytes(entry, row * width, count * width);
        // Declarations are for TypeScript 5.4, where arrays of bytes do not say whose memory they are.
        const values = toFloat32(name, entry.dtype, buffer as ArrayBuffer);
        const { codes, scales } = await round(values, columns, row);
        if (!scales.every(Number.isFinite)) throw notFinite(name, entry.file);
        write(codes, codesAt);
        const packed = scaleBytes(parts.scales.dtype, scales);
        write(packed, scalesAt);
        codesAt += codes.length;
        scalesAt += packed.length;
        await step(count * width);
      }
    };
    if (sequences.length > 0) {
      await calibrateMatrices(directory, sequences, {
        ...{ matrices: work.matrices, format, threads, signal },
        rounded: async (matrix, round) => {
          const [rows, columns] = matrix[1].shape as readonly [number, number];
          const numbers = new Float32Array(new SharedArrayBuffer(4 * rows * columns));
          await writeMatrix(matrix, async (values, width, row) => {
            const made = await round(values, width);
            numbers.set(made.numbers, row * width);
            return made;
          });
          return numbers;
        },
      });
    }
    for (const matrix of work.matrices) {
      if (!written.has(matrix[0]))
        await writeMatrix(matrix, (values, columns) => rounded(format, values, columns));
    }
  } finally {
    closeSync(file);
  }
}

interface RoundedRows {
  readonly codes: Uint8Array;
  readonly scales: Float64Array;
}

/** Codes and scales of rows from this one on. */
type Round = (values: Float32Array, columns: number, row: number) => RoundedRows | Promise<RoundedRows>;

function rounded(format: WrittenFormat, values: Float32Array, columns: number): RoundedRows {
  if (format === 'fp8') return fp8Rows(values, columns);
  const { levels, scales } = levelsOfBlocks(format, values, columns);
  return { codes: packLevels(format, levels), scales };
}

const notFinite = (name: string, file: string) =>
  new OnelaunchError(
    'usage',
    `${file} has ${name} with a number that is not finite, or too large for a scale`,
    {
      hint: "copy the file from the model's own repository again",
    },
  );
