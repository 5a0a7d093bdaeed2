import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Problems } from '../../errors.ts';
import { readTensors, writeSafetensors } from '../../runtime/weights/safetensors.ts';
import { refusalOf } from '../support/refusal.ts';

const makeDirectory = () => mkdtempSync(join(tmpdir(), 'onelaunch-'));

/** A safetensors file of this header, then so many bytes of data. */
function makeFile(header: object | string, dataBytes: number): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}

const f32 = (shape: number[], begin: number, end: number) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

test('what writeSafetensors wrote is found at the offsets that readTensors tells', () => {
  const directory = makeDirectory();
  const path = join(directory, 'model.safetensors');
  writeSafetensors(path, {
    'a.weight': { dtype: 'F32', shape: [2, 1], data: new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]) },
    'b.bias': { dtype: 'BF16', shape: [1], data: new Uint8Array([9, 10]) },
  });
  const tensors = readTensors(directory);
  const bias = tensors.get('b.bias')!;
  expect(bias).toEqual({ file: path, dtype: 'BF16', shape: [1], offset: bias.offset, bytes: 2 });
  expect([...readFileSync(path).subarray(bias.offset, bias.offset + bias.bytes)]).toEqual([9, 10]);
  expect(tensors.get('a.weight')!.offset % 8).toBe(0);
});

test('the bundled checkpoints are read whole', () => {
  const counts = [
    '../fixtures/qwen3-micro',
    '../fixtures/qwen2-micro',
    '../fixtures/llama3-micro',
    '../fixtures/smollm2-micro',
    '../../models/qwen3-tiny',
  ].map((path) => readTensors(new URL(path, import.meta.url).pathname).size);
  expect(counts).toEqual([24, 26, 21, 29, 68]);
});

test('scalars, empty tensors and metadata are no mistakes', () => {
  const directory = makeDirectory();
  const header = { __metadata__: { format: 'pt' }, scalar: f32([], 0, 4), empty: f32([0, 7], 0, 0) };
  writeFileSync(join(directory, 'model.safetensors'), makeFile(header, 4));
  expect([...readTensors(directory).keys()].sort()).toEqual(['empty', 'scalar']);
});

test('a tensor of a shard has the file and the offset of that shard', () => {
  const directory = makeDirectory();
  writeFileSync(join(directory, 'one.safetensors'), makeFile({ a: f32([1], 0, 4) }, 4));
  writeFileSync(join(directory, 'two.safetensors'), makeFile({ b: f32([3], 0, 12) }, 12));
  const map = { a: 'one.safetensors', b: 'two.safetensors' };
  writeFileSync(
    join(directory, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: {}, weight_map: map }),
  );
  const tensors = readTensors(directory);
  expect([tensors.get('a')!.file, tensors.get('b')!.file]).toEqual([
    join(directory, map.a),
    join(directory, map.b),
  ]);
});

const twice =
  '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';
const tooLong = Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, 0x7b, 0x7d]);

const badFiles: [what: string, file: Buffer | string, message: string][] = [
  [
    'a git-lfs pointer',
    'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n',
    ' is not a safetensors file',
  ],
  ['a web page', '<!DOCTYPE html>\n<html></html>', ' is not a safetensors file'],
  ['a GGUF file', 'GGUF\u0003\u0000\u0000\u0000\u0000', ' is not a safetensors file'],
  ['a PyTorch checkpoint', 'PK\u0003\u0004abcdefgh', ' is not a safetensors file'],
  ['an empty file', '', ' has 0 bytes, too few for a safetensors file'],
  ['a header of 4 GiB', tooLong, ' has a header of 4294967296 bytes, more than 100000000'],
  [
    'a header longer than the file',
    makeFile({ a: f32([1], 0, 4) }, 4).subarray(0, 30),
    ' has 30 bytes, and its header alone has 54: it is cut short',
  ],
  ['a header that is no JSON', makeFile('{"a": ', 0), ' has a header that is not valid JSON'],
  ['a header that is a list', makeFile('[]', 0), ': the file is [], expected object'],
  [
    'a tensor without a shape',
    makeFile({ a: { dtype: 'F32', data_offsets: [0, 4] } }, 4),
    ': a.shape is missing',
  ],
  ['a negative size', makeFile({ a: f32([-1], 0, 4) }, 4), ': a.shape[0] is -1, expected at least 0'],
  ['a fractional size', makeFile({ a: f32([1.5], 0, 6) }, 6), ': a.shape[0] is 1.5, expected int'],
  [
    'three offsets',
    makeFile({ a: { dtype: 'F32', shape: [1], data_offsets: [0, 4, 8] } }, 4),
    ': a.data_offsets is [0,4,8], expected at most 2 items',
  ],
  [
    'an unknown dtype',
    makeFile({ a: { dtype: 'Q4_K', shape: [1], data_offsets: [0, 4] } }, 4),
    ' has a in the unknown dtype "Q4_K"',
  ],
  [
    'a dtype that objects inherit',
    makeFile({ a: { dtype: 'toString', shape: [1], data_offsets: [0, 4] } }, 4),
    ' has a in the unknown dtype "toString"',
  ],
  [
    'too few bytes for the shape',
    makeFile({ a: f32([2], 0, 4) }, 4),
    ' has a as F32 [2] in 4 bytes, where 8 are needed',
  ],
  [
    'offsets that run backwards',
    makeFile({ a: f32([1], 8, 4) }, 8),
    ' has a as F32 [1] in -4 bytes, where 4 are needed',
  ],
  [
    'sizes whose product is not exact',
    makeFile({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4),
    ' has a as F32 [1099511627776, 1099511627776] in 4 bytes, where 4.835703278458517e+24 are needed',
  ],
  [
    'overlapping tensors',
    makeFile({ a: f32([2], 0, 8), b: f32([1], 4, 8) }, 8),
    ' has b at byte 4 of the data, overlapping the tensor before it',
  ],
  [
    'a gap between tensors',
    makeFile({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12),
    ' has b at byte 8 of the data, leaving a gap before it',
  ],
  [
    'a file cut short',
    makeFile({ a: f32([2], 0, 8) }, 5),
    ' has 67 bytes, and its header describes 70: it is cut short',
  ],
  [
    'bytes after the last tensor',
    makeFile({ a: f32([2], 0, 8) }, 9),
    ' has 71 bytes, and its header describes 70: something follows the last tensor',
  ],
  ['one name twice', makeFile(twice, 4), ' holds a twice'],
  [
    'metadata that is no text',
    makeFile({ __metadata__: { step: 1 } }, 0),
    ': __metadata__.step is 1, expected string',
  ],
];

test.each(badFiles)('%s in place of the weights is refused', (_, file, message) => {
  const directory = makeDirectory();
  writeFileSync(join(directory, 'model.safetensors'), file);
  const error = refusalOf(() => readTensors(directory));
  expect(error.message.replace(directory, 'DIR')).toBe(`DIR/model.safetensors${message}`);
  expect(error.kind).toBe('usage');
  expect(error.hint).toMatch(/^\S.*[.]$/);
});

test('the hint knows a git-lfs pointer from a web page', () => {
  const hints = ['version https://git-lfs.github.com/spec/v1\n', '\n<html>'].map((text) => {
    const directory = makeDirectory();
    writeFileSync(join(directory, 'model.safetensors'), text);
    return refusalOf(() => readTensors(directory)).hint;
  });
  expect(hints).toEqual([
    'It is a git-lfs pointer: run `git lfs pull` in the directory, or download the file itself.',
    'It is a web page, such as a login or an error page: download the file itself.',
  ]);
});

const badIndexes: [index: unknown, message: string][] = [
  [
    { weight_map: { a: '../one.safetensors' } },
    'DIR/model.safetensors.index.json names the shard "../one.safetensors", not a plain file beside it',
  ],
  [
    { weight_map: { a: '/tmp/one.safetensors' } },
    'DIR/model.safetensors.index.json names the shard "/tmp/one.safetensors", not a plain file beside it',
  ],
  [
    { weight_map: { a: 'one.bin' } },
    'DIR/model.safetensors.index.json names the shard "one.bin", not a plain file beside it',
  ],
  [
    { weight_map: { a: 'none.safetensors' } },
    'DIR/model.safetensors.index.json names none.safetensors, and there is no such file',
  ],
  [
    { weight_map: { a: 'one.safetensors', b: 'none.safetensors', c: 'nil.safetensors' } },
    'DIR/model.safetensors.index.json names nil.safetensors, none.safetensors, and there are no such files',
  ],
  [
    { weight_map: { a: 'one.safetensors', c: 'two.safetensors', d: 'three.safetensors' } },
    'DIR/three.safetensors holds a, which DIR/one.safetensors holds too, with other values',
  ],
  [{ weight_map: { a: 1 } }, 'DIR/model.safetensors.index.json: weight_map.a is 1, expected string'],
  [{ metadata: {} }, 'DIR/model.safetensors.index.json: weight_map is missing'],
];

test.each(badIndexes)('an index of %j is refused', (index, message) => {
  const directory = makeDirectory();
  writeFileSync(join(directory, 'one.safetensors'), makeFile({ a: f32([1], 0, 4) }, 4));
  writeFileSync(join(directory, 'two.safetensors'), makeFile({ c: f32([1], 0, 4), d: f32([1], 4, 8) }, 8));
  writeFileSync(join(directory, 'three.safetensors'), makeFile({ a: f32([2], 0, 8) }, 8));
  writeFileSync(join(directory, 'model.safetensors.index.json'), JSON.stringify(index));
  const error = refusalOf(() => readTensors(directory));
  expect(error.message.replaceAll(directory, 'DIR')).toBe(message);
  expect(error.kind).toBe('usage');
  expect(error.hint).toMatch(/^\S.*[.]$/);
});

test.each([
  [{ a: 'one.safetensors', b: 'one.safetensors' }, ['a']],
  [{ c: 'two.safetensors' }, ['c', 'd']],
  [{ a: 'two.safetensors', c: 'one.safetensors' }, ['a', 'c', 'd']],
  [{ a: 'one.safetensors', x: 'same.safetensors' }, ['a']],
])('an index of %j that errs gives what its shards hold: %j', (map, names) => {
  const directory = makeDirectory();
  writeFileSync(join(directory, 'one.safetensors'), makeFile({ a: f32([1], 0, 4) }, 4));
  writeFileSync(join(directory, 'same.safetensors'), makeFile({ a: f32([1], 0, 4) }, 4));
  writeFileSync(join(directory, 'two.safetensors'), makeFile({ c: f32([1], 0, 4), d: f32([1], 4, 8) }, 8));
  writeFileSync(join(directory, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
  expect([...readTensors(directory).keys()].sort()).toEqual(names);
});

test('all shards that cannot be read are told at once', () => {
  const directory = makeDirectory();
  writeFileSync(join(directory, 'one.safetensors'), 'version https://git-lfs.github.com/spec/v1\n');
  writeFileSync(join(directory, 'two.safetensors'), makeFile({ a: f32([2], 0, 8) }, 5));
  const map = { a: 'one.safetensors', b: 'two.safetensors', c: 'three.safetensors' };
  writeFileSync(join(directory, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
  const error = refusalOf(() => readTensors(directory)) as Problems;
  expect(error.problems.map(({ message }) => message.replaceAll(directory, 'DIR'))).toEqual([
    'DIR/model.safetensors.index.json names three.safetensors, and there is no such file',
    'DIR/one.safetensors is not a safetensors file',
    'DIR/two.safetensors has 67 bytes, and its header describes 70: it is cut short',
  ]);
});

test.each(['F8_E4M3FNUZ', 'F8_E5M2FNUZ'])(
  '%s is a dtype like others: who needs the tensor refuses it',
  (dtype) => {
    const directory = makeDirectory();
    const header = { a: { dtype, shape: [3], data_offsets: [0, 3] } };
    writeFileSync(join(directory, 'model.safetensors'), makeFile(header, 3));
    expect(readTensors(directory).get('a')).toMatchObject({ dtype, bytes: 3 });
  },
);

test('a header nested deeper than the stack is refused', () => {
  const directory = makeDirectory();
  const deep = `{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}`;
  writeFileSync(join(directory, 'model.safetensors'), makeFile(deep, 0));
  expect(refusalOf(() => readTensors(directory)).message).toContain(
    'model.safetensors nests more than 100 levels deep',
  );
});

test('a pipe in place of the weights is refused, and not waited for', () => {
  const directory = makeDirectory();
  execFileSync('bash', ['-c', `mkfifo '${join(directory, 'model.safetensors')}'`]);
  expect(refusalOf(() => readTensors(directory)).message).toBe(
    `${directory}/model.safetensors is a pipe, not a plain file`,
  );
});

test.each(['model.safetensors', 'model.safetensors.index.json'])(
  '%s as a link to nothing is told',
  (name) => {
    const directory = makeDirectory();
    symlinkSync('/nowhere', join(directory, name));
    expect(refusalOf(() => readTensors(directory)).message).toBe(
      `${directory}/${name} is a link to a file that is not there`,
    );
  },
);

test('a directory without weights says what is there instead', () => {
  const hintBeside = (file: string) => {
    const directory = makeDirectory();
    if (file !== '') writeFileSync(join(directory, file), '');
    const { message, hint } = refusalOf(() => readTensors(directory));
    return [message.replace(directory, 'DIR'), hint];
  };
  const message = 'no model.safetensors in DIR';
  expect(
    ['', 'pytorch_model.bin', 'model.Q4.gguf', 'model-00001-of-00002.safetensors'].map(hintBeside),
  ).toEqual([
    [message, 'Copy the weights beside config.json.'],
    [message, expect.stringMatching(/^pytorch_model.bin is not read. In Python, .*save_pretrained/)],
    [message, expect.stringMatching(/^Give the GGUF file itself as the model: .*model.Q4.gguf$/)],
    [
      message,
      'There is model-00001-of-00002.safetensors: copy model.safetensors.index.json beside it, or rename a single file.',
    ],
  ]);
});

test('a directory named model.safetensors is refused', () => {
  const directory = makeDirectory();
  mkdirSync(join(directory, 'model.safetensors'));
  expect(refusalOf(() => readTensors(directory)).message).toBe(
    `${directory}/model.safetensors is a directory, not a plain file`,
  );
});
