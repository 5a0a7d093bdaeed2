// The header of a GGUF file: its metadata, and where each tensor lies. Weights are never read.
// Source: docs/gguf.md of ggml, versions 2 and 3.
import { isUtf8 } from 'node:buffer';
import { closeSync, fstatSync, statSync } from 'node:fs';
import { copyFromRepository, openPlainFile, readInto } from '../files/plain-file.ts';
import { type Cursor, openCursor } from './cursor.ts';
import { broken, shown } from './refusals.ts';
import { type TensorType, tensorTypes, typeName } from './tensor-types.ts';

/** A list of the metadata, as it lies in the file until somebody needs it. */
export interface GgufList {
  readonly element: ElementType;
  readonly count: number;
  readonly bytes: Buffer;
}
type GgufValue = number | bigint | boolean | string | GgufList;

export interface GgufTensor {
  readonly name: string;
  /** The elements of a row first. */
  readonly shape: readonly number[];
  readonly type: TensorType;
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface GgufFile {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** Whether what stands for a model is a file: of those, only GGUF files are models. */
export const isGgufFile = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

/** The header read last: several parts of a load ask for the same, and a vocabulary of 152k tokens takes 0.1 s to read. */
let latest: { readonly of: string; readonly file: WeakRef<GgufFile> } | undefined;

/** The header of a file, which is read again when the file is another, or was written since.
 *  @throws OnelaunchError of kind usage, for whatever is not as the format says, and for tensors of types that are not read */
export function readGguf(path: string): GgufFile {
  const { fd, bytes } = openPlainFile(path, copyFromRepository);
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = fstatSync(fd, { bigint: true });
    const of = [path, dev, ino, size, mtimeNs, ctimeNs].join(' ');
    const known = latest?.of === of ? latest.file.deref() : undefined;
    if (known) return known;
    const file = readHeader(path, fd, bytes);
    // A clock of files ticks every few milliseconds: what was written just now may be written again in the same tick.
    const isSettled = Date.now() - Number(ctimeNs / 1_000_000n) > 50;
    latest = isSettled ? { of, file: new WeakRef(file) } : undefined;
    return file;
  } finally {
    closeSync(fd);
  }
}

function readHeader(path: string, fd: number, bytes: number): GgufFile {
  checkStart(path, fd, bytes);
  const cursor = openCursor(path, fd, bytes);
  cursor.take(8, 'its header');
  const tensorCount = cursor.count('the number of tensors');
  const keyCount = cursor.count('the number of metadata keys');
  // A name of one letter, a type, and a value of one byte.
  cursor.expect(keyCount, 14, 'the list of metadata');
  const metadata = readMetadata(path, cursor, keyCount);
  refuseSplit(path, metadata);
  cursor.expect(tensorCount, 33, 'the list of tensors');
  return { path, metadata, tensors: readTensors(path, cursor, { tensorCount, metadata, bytes }) };
}

function checkStart(path: string, fd: number, bytes: number): void {
  if (bytes === 0) throw broken(path, 'is empty');
  const start = Buffer.alloc(Math.min(bytes, 8));
  readInto(start, fd, path, 0);
  if (start.toString('latin1', 0, 4) !== 'GGUF') {
    const isPointer = start.toString('latin1').startsWith('version ');
    throw broken(
      path,
      'is not a GGUF file',
      isPointer
        ? 'It is a git-lfs pointer: run `git lfs pull` beside it, or download the file itself.'
        : 'Give a folder with config.json and safetensors files, or a file that begins with GGUF.',
    );
  }
  if (bytes < 24) throw broken(path, `has ${bytes} bytes, too few for a GGUF file`);
  const version = start.readUInt32LE(4);
  if (version === 2 || version === 3) return;
  if (start.readUInt32BE(4) <= 3) {
    throw broken(
      path,
      'is big-endian, which is not read',
      'Make it for little-endian machines: convert_hf_to_gguf.py without --bigendian.',
    );
  }
  throw broken(
    path,
    `is of version ${version} of the format, supported: 2, 3`,
    'Make it again with a current convert_hf_to_gguf.py of llama.cpp, or use the safetensors files of the model.',
  );
}

/** Bytes of one element, by the code of its type; a text has at least its length. */
const elementTypes: ReadonlyMap<number, readonly [ElementType, number]> = new Map([
  [0, ['u8', 1]],
  [1, ['i8', 1]],
  [2, ['u16', 2]],
  [3, ['i16', 2]],
  [4, ['u32', 4]],
  [5, ['i32', 4]],
  [6, ['f32', 4]],
  [7, ['bool', 1]],
  [8, ['text', 8]],
  [10, ['u64', 8]],
  [11, ['i64', 8]],
  [12, ['f64', 8]],
]);
type Integer = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'u64' | 'i64';
type ElementType = Integer | 'f32' | 'f64' | 'bool' | 'text';
const listCode = 9;

function elementType(path: string, code: number, key: string): readonly [ElementType, number] {
  const found = elementTypes.get(code);
  if (found !== undefined) return found;
  throw broken(path, `has the metadata ${shown(key)} in the unknown type ${code}`);
}

function readMetadata(path: string, cursor: Cursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const key = cursor.text('a metadata key');
    if (metadata.has(key)) throw broken(path, `has the metadata ${shown(key)} twice`);
    const code = cursor.u32(`the metadata ${shown(key)}`);
    metadata.set(key, code === listCode ? readList(path, cursor, key) : readValue(path, cursor, code, key));
  }
  return metadata;
}

function readValue(path: string, cursor: Cursor, code: number, key: string): GgufValue {
  const what = `the metadata ${shown(key)}`;
  const [type, size] = elementType(path, code, key);
  if (type === 'text') return cursor.text(what);
  const value = decode(type, cursor.take(size, what), 0);
  if (type !== 'bool') return value;
  if (value !== 0 && value !== 1) throw broken(path, `has ${value} for true or false in ${what}`);
  return value === 1;
}

function decode(type: Exclude<ElementType, 'text'>, bytes: Buffer, at: number): number | bigint {
  switch (type) {
    case 'u8':
    case 'bool':
      return bytes.readUInt8(at);
    case 'i8':
      return bytes.readInt8(at);
    case 'u16':
      return bytes.readUInt16LE(at);
    case 'i16':
      return bytes.readInt16LE(at);
    case 'u32':
      return bytes.readUInt32LE(at);
    case 'i32':
      return bytes.readInt32LE(at);
    case 'f32':
      return bytes.readFloatLE(at);
    case 'f64':
      return bytes.readDoubleLE(at);
    case 'u64':
      return whole(bytes.readBigUInt64LE(at));
    case 'i64':
      return whole(bytes.readBigInt64LE(at));
    default:
      return type satisfies never;
  }
}

const whole = (value: bigint) => (Number.isSafeInteger(Number(value)) ? Number(value) : value);

function readList(path: string, cursor: Cursor, key: string): GgufList {
  const what = `the list ${shown(key)}`;
  const code = cursor.u32(what);
  if (code === listCode) throw broken(path, `has lists in ${what}, which are not read`);
  const [element, size] = elementType(path, code, key);
  const count = cursor.count(what);
  cursor.expect(count, size, what);
  if (element !== 'text') return { element, count, bytes: cursor.take(count * size, what) };
  return { element, count, bytes: cursor.texts(count, what) };
}

/** The elements of lists, as long as their header is held: the parts of a load ask for the same, and 152k tokens take 60 ms. */
const elements = new WeakMap<GgufList, readonly (string | number)[]>();

/** The elements of a list, which are made once. */
function once<T extends string | number>(list: GgufList, make: () => readonly T[]): readonly T[] {
  const made = (elements.get(list) as readonly T[] | undefined) ?? make();
  elements.set(list, made);
  return made;
}

/** The numbers of a list. */
export function numbersOf(list: GgufList): readonly number[] | undefined {
  const { element, count, bytes } = list;
  if (element === 'text') return undefined;
  const size = bytes.length / Math.max(count, 1);
  return once(list, () => Array.from({ length: count }, (_, i) => Number(decode(element, bytes, i * size))));
}

/** The texts of a list; undefined for one of numbers. @throws OnelaunchError of kind usage for what is no UTF-8 */
export function textsOf(list: GgufList, path: string, key: string): readonly string[] | undefined {
  if (list.element !== 'text') return undefined;
  return once(list, () => readTexts(list, path, key));
}

function readTexts({ count, bytes }: GgufList, path: string, key: string): string[] {
  const texts: string[] = [];
  for (let at = 0; texts.length < count; ) {
    const start = at + 8;
    at = start + bytes.readUInt32LE(at);
    const text = bytes.subarray(start, at);
    if (!isUtf8(text))
      throw broken(path, `has a text in ${shown(key)}, number ${texts.length}, that is no UTF-8`);
    texts.push(text.toString('utf8'));
  }
  return texts;
}

function refuseSplit(path: string, metadata: ReadonlyMap<string, GgufValue>): void {
  const count = metadata.get('split.count');
  if (count === undefined || count === 0 || count === 1) return;
  const part = Number(metadata.get('split.no') ?? 0) + 1;
  throw broken(
    path,
    `is part ${part} of ${shown(count)} of a split model, and parts are not read`,
    'Join them: llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf, of llama.cpp; then give WHOLE.gguf.',
  );
}

const defaultAlignment = 32;

function readTensors(
  path: string,
  cursor: Cursor,
  of: { readonly tensorCount: number; readonly metadata: GgufFile['metadata']; readonly bytes: number },
): Map<string, GgufTensor> {
  const alignment = of.metadata.get('general.alignment') ?? defaultAlignment;
  if (
    typeof alignment !== 'number' ||
    alignment < 1 ||
    alignment > 1 << 20 ||
    !Number.isInteger(Math.log2(alignment))
  ) {
    throw broken(path, `has general.alignment ${shown(alignment)}, which must be a power of two`);
  }
  const found: (Omit<GgufTensor, 'type' | 'bytes'> & { readonly code: number })[] = [];
  const names = new Set<string>();
  for (let i = 0; i < of.tensorCount; i++) {
    const name = cursor.text('the name of a tensor');
    if (names.has(name)) throw broken(path, `holds the tensor ${shown(name)} twice`);
    names.add(name);
    const what = `the tensor ${shown(name)}`;
    const dimensions = cursor.u32(what);
    if (dimensions < 1 || dimensions > 4) throw broken(path, `has ${what} with ${dimensions} dimensions`);
    const shape = Array.from({ length: dimensions }, () => cursor.count(what));
    if (shape.includes(0)) throw broken(path, `has ${what} as [${shape.join(', ')}]`);
    found.push({ name, shape, code: cursor.u32(what), offset: cursor.count(what) });
  }
  refuseTypes(path, found);
  const start = Math.ceil(cursor.at / alignment) * alignment;
  const tensors = found.map((one) => place(path, one, { start, alignment, fileBytes: of.bytes }));
  checkOverlaps(path, tensors);
  return new Map(tensors.map((tensor) => [tensor.name, tensor]));
}

function refuseTypes(
  path: string,
  tensors: readonly { readonly name: string; readonly code: number }[],
): void {
  const wrong = tensors.filter(({ code }) => !tensorTypes.has(code));
  if (wrong.length === 0) return;
  const types = [...new Set(wrong.map(({ code }) => typeName(code)))];
  const more = wrong.length > 1 ? ` and ${wrong.length - 1} more` : '';
  const supported = [...tensorTypes.values()].map(({ name }) => name).join(', ');
  throw broken(
    path,
    `has ${wrong[0]!.name}${more} as ${types.join(' and ')}, supported: ${supported}`,
    'Use a file of the same model in one of these types, such as its Q4_K_M, Q8_0 or BF16.',
  );
}

function place(
  path: string,
  { name, shape, code, offset }: { name: string; shape: readonly number[]; code: number; offset: number },
  data: { readonly start: number; readonly alignment: number; readonly fileBytes: number },
): GgufTensor {
  const type = tensorTypes.get(code)!;
  const told = `has ${shown(name)} as ${type.name} [${shape.join(', ')}]`;
  if (shape[0]! % type.elements !== 0)
    throw broken(path, `${told}, and its rows must be whole blocks of ${type.elements}`);
  const elements = shape.reduce((product, size) => product * size, 1);
  const bytes = (elements / type.elements) * type.bytes;
  if (offset % data.alignment !== 0)
    throw broken(path, `${told} at byte ${offset} of the data, which is not a multiple of ${data.alignment}`);
  if (!(data.start + offset + bytes <= data.fileBytes)) {
    throw broken(
      path,
      `has ${data.fileBytes} bytes, and ${shown(name)} as ${type.name} [${shape.join(', ')}] would end at byte ${data.start + offset + bytes}: it is cut short or damaged`,
    );
  }
  return { name, shape, type, offset: data.start + offset, bytes };
}

function checkOverlaps(path: string, tensors: readonly GgufTensor[]): void {
  const inOrder = [...tensors].sort((a, b) => a.offset - b.offset);
  for (const [i, { name, offset }] of inOrder.entries()) {
    const before = inOrder[i - 1];
    if (before === undefined || before.offset + before.bytes <= offset) continue;
    throw broken(path, `has ${shown(name)} where ${shown(before.name)} still lies: they overlap`);
  }
}
