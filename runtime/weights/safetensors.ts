// Where each tensor of a checkpoint lies, read from the headers of its safetensors files. Weights are never read.
import { isUtf8 } from 'node:buffer';
import { closeSync, existsSync, openSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { gather, OnelaunchError } from '../../errors.ts';
import { checkDepth, misplacedFile } from '../../files/json-text.ts';
import { copyFromRepository, openPlainFile, readInto } from '../../files/plain-file.ts';
import type { Packed } from '../../quantised/tensors.ts';
import { checkShape, readJson } from '../json-file.ts';

/** One tensor: row-major, little endian. */
export interface TensorEntry {
  /** Path of the file that holds it. */
  readonly file: string;
  /** Name in the file: BF16, F16, F32, ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
  /** Rows of a head in which the two of a rotary pair lie next to each other. @default 0: rows lie as the model has them */
  readonly headRows?: number;
  /** The entry is of codes: shape is the matrix's, dtype a name for people. */
  readonly packed?: Packed;
}
export type Tensors = ReadonlyMap<string, TensorEntry>;

/** Bits of one element, for every dtype of the format. */
const bitsOf: Readonly<Record<string, number>> = {
  ...{
    F64: 64,
    F32: 32,
    F16: 16,
    BF16: 16,
    F8_E4M3: 8,
    F8_E5M2: 8,
    F8_E4M3FNUZ: 8,
    F8_E5M2FNUZ: 8,
    F8_E8M0: 8,
    F6_E2M3: 6,
    F6_E3M2: 6,
    F4: 4,
  },
  ...{ I64: 64, I32: 32, I16: 16, I8: 8, U64: 64, U32: 32, U16: 16, U8: 8, BOOL: 8, C64: 64 },
};

/** How a checkpoint becomes one that can be read. */
export const saveAsBf16 =
  'In Python, AutoModelForCausalLM.from_pretrained(DIR, dtype="bfloat16").save_pretrained(OUT) writes files that are read.';

/** Tensors of the model in a directory: of model.safetensors, else of the shards that model.safetensors.index.json names.
 *  As in transformers, a tensor is where a shard holds it, whatever the index says.
 *  @throws OnelaunchError of kind usage, for all files that cannot be read.
 *  Source: the format in the README of huggingface/safetensors. */
export function readTensors(directory: string): Tensors {
  const single = join(directory, 'model.safetensors');
  if (existsSync(single)) return readTensorFile(single);
  const index = join(directory, 'model.safetensors.index.json');
  if (existsSync(index)) return readShards(directory, index);

  const files = existsSync(directory) ? readdirSync(directory) : [];
  const dangling = [single, index].find((path) => files.includes(basename(path)));
  if (dangling !== undefined) {
    throw new OnelaunchError('usage', `${dangling} is a link to a file that is not there`, {
      hint: 'The download may be incomplete: download the model again, or copy the file itself.',
    });
  }
  const torch = files.find((file) => /\.(bin|pt|pth)$/.test(file));
  const gguf = files.find((file) => file.endsWith('.gguf'));
  const shard = files.find((file) => file.endsWith('.safetensors'));
  let hint = 'Copy the weights beside config.json.';
  if (gguf !== undefined) hint = `Give the GGUF file itself as the model: ${join(directory, gguf)}`;
  if (torch !== undefined) hint = `${torch} is not read. ${saveAsBf16}`;
  if (shard !== undefined)
    hint = `There is ${shard}: copy model.safetensors.index.json beside it, or rename a single file.`;
  throw new OnelaunchError('usage', `no model.safetensors in ${directory}`, { hint });
}

function readShards(directory: string, index: string): Tensors {
  const shape = z.looseObject({ weight_map: z.record(z.string(), z.string()) });
  const { weight_map: map } = checkShape(shape, readJson(index, { mostBytes: mostIndexBytes }), index);
  const shards = [...new Set(Object.values(map))].sort();
  for (const shard of shards) {
    if (isAbsolute(shard) || shard.split(/[/\\]/).includes('..') || !shard.endsWith('.safetensors')) {
      throw broken(index, `names the shard ${JSON.stringify(shard)}, not a plain file beside it`);
    }
  }
  const errors: OnelaunchError[] = [];
  const missing = shards.filter((shard) => !existsSync(join(directory, shard)));
  if (missing.length > 0) {
    const what = missing.length === 1 ? 'there is no such file' : 'there are no such files';
    const hint = `Copy ${listed(missing)} beside the index.`;
    errors.push(new OnelaunchError('usage', `${index} names ${listed(missing)}, and ${what}`, { hint }));
  }
  const tensors = new Map<string, TensorEntry>();
  for (const shard of shards.filter((one) => !missing.includes(one))) {
    try {
      for (const [name, entry] of readTensorFile(join(directory, shard))) {
        const other = tensors.get(name);
        if (other !== undefined && !sameBytes(other, entry))
          throw broken(entry.file, `holds ${name}, which ${other.file} holds too, with other values`);
        tensors.set(name, entry);
      }
    } catch (error) {
      if (!(error instanceof OnelaunchError)) throw error;
      errors.push(error);
    }
  }
  if (errors.length > 0) throw gather(errors);
  return tensors;
}

/** The first names, and how many more there are. */
export function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}

/** Whether two tensors have one dtype, one shape and the same bytes. Reads no further than the first difference. */
export function sameBytes(a: TensorEntry, b: TensorEntry): boolean {
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join() || a.bytes !== b.bytes) return false;
  if (a.file === b.file && a.offset === b.offset) return true;
  const files = [openSync(a.file, 'r'), openSync(b.file, 'r')] as const;
  try {
    const blocks = [Buffer.alloc(compareBytes), Buffer.alloc(compareBytes)] as const;
    for (let at = 0; at < a.bytes; at += compareBytes) {
      const length = Math.min(compareBytes, a.bytes - at);
      const got = [
        readInto(blocks[0].subarray(0, length), files[0], a.file, a.offset + at),
        readInto(blocks[1].subarray(0, length), files[1], b.file, b.offset + at),
      ];
      if (got[0] !== length || got[1] !== length) return false;
      if (blocks[0].compare(blocks[1], 0, length, 0, length) !== 0) return false;
    }
    return true;
  } finally {
    for (const file of files) closeSync(file);
  }
}

/** Read at a time to compare: few calls, and within a cache of the CPU. */
const compareBytes = 1 << 20;

const mostHeaderBytes = 100_000_000;
const mostIndexBytes = 64_000_000;
const header = z.record(
  z.string(),
  z.object({
    dtype: z.string(),
    shape: z.array(z.int().nonnegative()),
    data_offsets: z.tuple([z.int().nonnegative(), z.int().nonnegative()]),
  }),
);
const metadata = z.record(z.string(), z.string()).optional();

function readTensorFile(path: string): Tensors {
  const { text, start, fileBytes } = readHeader(path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw broken(path, 'has a header that is not valid JSON');
  }
  checkDepth(json, path, copyFromRepository);
  const twice = findRepeatedKey(text);
  if (twice !== undefined) throw broken(path, `holds ${twice} twice`);
  const { __metadata__, ...rest } = checkShape(z.looseObject({ __metadata__: metadata }), json, path);

  const tensors = new Map<string, TensorEntry>();
  let end = 0;
  const entries = Object.entries(checkShape(header, rest, path));
  // Tensors of no elements sort before the one that begins where they do.
  entries.sort(
    ([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1],
  );
  for (const [name, { dtype, shape, data_offsets: offsets }] of entries) {
    const bits = Object.hasOwn(bitsOf, dtype) ? bitsOf[dtype] : undefined;
    if (bits === undefined) {
      const message = `${path} has ${name} in the unknown dtype ${JSON.stringify(dtype)}`;
      throw new OnelaunchError('usage', message, { hint: saveAsBf16 });
    }
    const bytes = offsets[1] - offsets[0];
    const wanted = (shape.reduce((product, size) => product * size, 1) * bits) / 8;
    if (!Number.isSafeInteger(wanted) || bytes !== wanted) {
      throw broken(
        path,
        `has ${name} as ${dtype} [${shape.join(', ')}] in ${bytes} bytes, where ${wanted} are needed`,
      );
    }
    if (offsets[0] !== end) {
      const how = offsets[0] < end ? 'overlapping the tensor before it' : 'leaving a gap before it';
      throw broken(path, `has ${name} at byte ${offsets[0]} of the data, ${how}`);
    }
    end = offsets[1];
    tensors.set(name, { file: path, dtype, shape, offset: start + offsets[0], bytes });
  }
  if (start + end !== fileBytes) {
    const how = start + end > fileBytes ? 'it is cut short' : 'something follows the last tensor';
    throw broken(path, `has ${fileBytes} bytes, and its header describes ${start + end}: ${how}`);
  }
  return tensors;
}

/** The header, the first byte after it, and the size of the file. */
function readHeader(path: string): { text: string; start: number; fileBytes: number } {
  const { fd, bytes: fileBytes } = openPlainFile(path, copyFromRepository);
  try {
    const head = Buffer.alloc(Math.min(64, fileBytes));
    readInto(head, fd, path, 0);
    const hint = misplacedFile(head.toString('latin1'));
    if (hint !== undefined) throw new OnelaunchError('usage', `${path} is not a safetensors file`, { hint });
    if (fileBytes < 8) throw broken(path, `has ${fileBytes} bytes, too few for a safetensors file`);
    const length = Number(head.readBigUInt64LE(0));
    if (length > mostHeaderBytes)
      throw broken(path, `has a header of ${length} bytes, more than ${mostHeaderBytes}`);
    if (8 + length > fileBytes) {
      throw broken(path, `has ${fileBytes} bytes, and its header alone has ${length}: it is cut short`);
    }
    const bytes = Buffer.alloc(length);
    readInto(bytes, fd, path, 8);
    if (!isUtf8(bytes)) throw broken(path, 'has a header that is no text in UTF-8');
    return { text: bytes.toString('utf8'), start: 8 + length, fileBytes };
  } finally {
    closeSync(fd);
  }
}

/** A key that stands twice in the outermost object of valid JSON; JSON.parse would keep the last one only. */
function findRepeatedKey(json: string): string | undefined {
  const seen = new Set<string>();
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    if (json[at] === '{') depth++;
    else if (json[at] === '}') depth--;
    if (json[at] !== '"') continue;
    const start = at++;
    while (json[at] !== '"') at += json[at] === '\\' ? 2 : 1;
    colon.lastIndex = at + 1;
    if (depth !== 1 || !colon.test(json)) continue;
    const name = JSON.parse(json.slice(start, at + 1)) as string;
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return undefined;
}

const colon = /\s*:/y;

function broken(path: string, what: string): OnelaunchError {
  return new OnelaunchError('usage', `${path} ${what}`, {
    hint: "Copy the file from the model's own repository again.",
  });
}

/** Bytes [at, at + bytes) of a tensor. @throws OnelaunchError of kind usage where the file has become shorter */
export function readBytes({ file, offset }: TensorEntry, at: number, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  const fd = openSync(file, 'r');
  try {
    for (let done = 0; done < bytes; ) {
      const got = readInto(out.subarray(done), fd, file, offset + at + done);
      if (got === 0) throw broken(file, 'has become shorter');
      done += got;
    }
    return out;
  } finally {
    closeSync(fd);
  }
}

/** Bytes of a tensor of a known dtype. */
export const bytesOf = (dtype: string, shape: readonly number[]): number =>
  (shape.reduce((product, size) => product * size, 1) * bitsOf[dtype]!) / 8;

/** What a safetensors file of these tensors begins with, the first byte of each in it, and its end. */
export function safetensorsHeader(
  tensors: readonly { readonly name: string; readonly dtype: string; readonly shape: readonly number[] }[],
): { readonly header: Buffer; readonly offsets: ReadonlyMap<string, number>; readonly end: number } {
  let end = 0;
  const entries = tensors.map(({ name, dtype, shape }) => {
    const begin = end;
    end += bytesOf(dtype, shape);
    return [name, { dtype, shape, data_offsets: [begin, end] as const }] as const;
  });
  const json = JSON.stringify(Object.fromEntries(entries));
  // The format pads the header with spaces, so that the data is aligned.
  const text = json.padEnd(json.length + ((8 - (Buffer.byteLength(json) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  const header = Buffer.concat([length, Buffer.from(text)]);
  const offsets = new Map(
    entries.map(([name, { data_offsets: at }]) => [name, header.length + at[0]] as const),
  );
  return { header, offsets, end: header.length + end };
}

/** Writes a safetensors file: for tests and tools, which have all of it in memory. */
export function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, { dtype: string; shape: readonly number[]; data: Uint8Array }>>,
): void {
  const { header } = safetensorsHeader(
    Object.entries(tensors).map(([name, tensor]) => ({ name, ...tensor })),
  );
  writeFileSync(path, Buffer.concat([header, ...Object.values(tensors).map(({ data }) => data)]));
}
