// Where each tensor of a checkpoint lies, read from the headers of its safetensors files. Weights are never read.
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync, writeFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { OnelaunchError } from '../errors.ts';
import { checkShape, misplacedFile, readJson } from './json-file.ts';

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
    F8_E8M0: 8,
    F6_E2M3: 6,
    F6_E3M2: 6,
    F4: 4,
  },
  ...{ I64: 64, I32: 32, I16: 16, I8: 8, U64: 64, U32: 32, U16: 16, U8: 8, BOOL: 8, C64: 64 },
};

/** Tensors of the model in a directory: of model.safetensors, else of the shards that model.safetensors.index.json names.
 *  @throws OnelaunchError of kind usage.
 *  Source: the format in the README of huggingface/safetensors. */
export function readTensors(directory: string): Tensors {
  const single = join(directory, 'model.safetensors');
  if (existsSync(single)) return readTensorFile(single);
  const index = join(directory, 'model.safetensors.index.json');
  if (existsSync(index)) return readShards(directory, index);

  const files = existsSync(directory) ? readdirSync(directory) : [];
  const other = files.find((file) => /\.(bin|gguf|pt|pth)$/.test(file));
  const shard = files.find((file) => file.endsWith('.safetensors'));
  let hint = 'Copy the weights beside config.json, or try without any: --random-weights.';
  if (other !== undefined) hint = `${other} cannot be read: use the safetensors files of the model.`;
  if (shard !== undefined)
    hint = `There is ${shard}: copy model.safetensors.index.json beside it, or rename a single file.`;
  throw new OnelaunchError('usage', `no model.safetensors in ${directory}`, { hint });
}

function readShards(directory: string, index: string): Tensors {
  const shape = z.looseObject({ weight_map: z.record(z.string(), z.string()) });
  const map = Object.entries(checkShape(shape, readJson(index), index).weight_map);
  const tensors = new Map<string, TensorEntry>();
  for (const shard of new Set(map.map(([, file]) => file))) {
    if (isAbsolute(shard) || shard.split(/[/\\]/).includes('..') || !shard.endsWith('.safetensors')) {
      throw broken(index, `names the shard ${JSON.stringify(shard)}, not a plain file beside it`);
    }
    const path = join(directory, shard);
    if (!existsSync(path)) {
      const hint = `Copy ${shard} beside the index.`;
      throw new OnelaunchError('usage', `${index} names ${shard}, and there is no such file`, { hint });
    }
    for (const [name, entry] of readTensorFile(path)) {
      const other = tensors.get(name);
      if (other !== undefined) throw broken(path, `holds ${name}, which ${other.file} holds too`);
      tensors.set(name, entry);
    }
  }
  for (const [name, shard] of map) {
    const file = tensors.get(name)?.file;
    if (file === undefined) throw broken(index, `says that ${shard} holds ${name}, and it does not`);
    if (file !== join(directory, shard))
      throw broken(index, `says that ${shard} holds ${name}, but ${file} does`);
  }
  const mapped = new Set(map.map(([name]) => name));
  for (const [name, { file }] of tensors) {
    if (!mapped.has(name)) throw broken(file, `holds ${name}, which the index does not name`);
  }
  return tensors;
}

const mostHeaderBytes = 100_000_000;
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
    if (bits === undefined) throw broken(path, `has ${name} in the unknown dtype ${JSON.stringify(dtype)}`);
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
  const fd = openSync(path, 'r');
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw broken(path, 'is not a file');
    const head = Buffer.alloc(Math.min(64, stat.size));
    readSync(fd, head, 0, head.length, 0);
    const hint = misplacedFile(head.toString('latin1'));
    if (hint !== undefined) throw new OnelaunchError('usage', `${path} is not a safetensors file`, { hint });
    if (stat.size < 8) throw broken(path, `has ${stat.size} bytes, too few for a safetensors file`);
    const length = Number(head.readBigUInt64LE(0));
    if (length > mostHeaderBytes)
      throw broken(path, `has a header of ${length} bytes, more than ${mostHeaderBytes}`);
    if (8 + length > stat.size) {
      throw broken(path, `has ${stat.size} bytes, and its header alone has ${length}: it is cut short`);
    }
    const bytes = Buffer.alloc(length);
    readSync(fd, bytes, 0, length, 8);
    return { text: bytes.toString('utf8'), start: 8 + length, fileBytes: stat.size };
  } finally {
    closeSync(fd);
  }
}

/** A key that stands twice in the outermost object of valid JSON; JSON.parse would keep the last one only. */
function findRepeatedKey(json: string): string | undefined {
  const seen = new Set<string>();
  let depth = 0;
  for (const [token, key] of json.matchAll(/("(?:[^"\\]|\\.)*")(?=\s*:)|"(?:[^"\\]|\\.)*"|[{}]/gs)) {
    if (token === '{') depth++;
    else if (token === '}') depth--;
    else if (depth === 1 && key !== undefined) {
      const name = JSON.parse(key) as string;
      if (seen.has(name)) return name;
      seen.add(name);
    }
  }
  return undefined;
}

function broken(path: string, what: string): OnelaunchError {
  return new OnelaunchError('usage', `${path} ${what}`, {
    hint: "Copy the file from the model's own repository again.",
  });
}

/** Writes a safetensors file: for tests and tools, which have all of it in memory. */
export function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, { dtype: string; shape: readonly number[]; data: Uint8Array }>>,
): void {
  let end = 0;
  const entries = Object.entries(tensors).map(([name, { dtype, shape, data }]) => {
    const begin = end;
    end += data.byteLength;
    return [name, { dtype, shape, data_offsets: [begin, end] }] as const;
  });
  const json = JSON.stringify(Object.fromEntries(entries));
  // The format pads the header with spaces, so that the data is aligned.
  const text = json.padEnd(json.length + ((8 - (Buffer.byteLength(json) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  writeFileSync(
    path,
    Buffer.concat([length, Buffer.from(text), ...Object.values(tensors).map(({ data }) => data)]),
  );
}
