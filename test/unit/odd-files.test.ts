// What stands in the place of a model's file: a pipe, a directory, a device, a file of absurd size, JSON without a bottom.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readModelDims } from '../../codegen/model/read-config.ts';
import { chatTemplate } from '../../runtime/chat-template.ts';
import { readGenerationConfig } from '../../runtime/generation-config.ts';
import { readGolden } from '../../runtime/golden.ts';
import { readTensors } from '../../runtime/safetensors.ts';
import { loadTokenizer } from '../../runtime/tokenizer.ts';
import { makeDirectory, tinyDirectory } from '../support/model-directory.ts';
import { refusalOf } from '../support/refusal.ts';

const files: [file: string, read: (directory: string) => unknown][] = [
  ['model.safetensors', readTensors],
  ['model.safetensors.index.json', readTensors],
  ['tokenizer.json', loadTokenizer],
  ['tokenizer_config.json', chatTemplate],
  ['chat_template.jinja', chatTemplate],
  ['generation_config.json', readGenerationConfig],
  ['golden.json', (directory) => readGolden(join(directory, 'golden.json'))],
];

const oddities: [what: string, put: (path: string) => void][] = [
  ['a pipe', (path) => execFileSync('mkfifo', [path])],
  ['a directory', (path) => mkdirSync(path)],
  ['a device', (path) => symlinkSync('/dev/zero', path)],
];

describe.each(oddities)('%s in the place of', (what, put) => {
  test.each(files)('%s is refused before it is opened', (file, read) => {
    const path = join(makeDirectory({}), file);
    put(path);
    const { message, kind } = refusalOf(() => read(join(path, '..')));
    expect(message).toBe(`${path} is ${what}, not a plain file`);
    expect(kind).toBe('usage');
  });

  test('config.json is refused before it is opened', () => {
    const path = join(makeDirectory({}), 'config.json');
    put(path);
    expect(refusalOf(() => readModelDims(join(path, '..'))).message).toMatch(/^no config\.json in /);
  });
});

test('logits beside a golden file are a plain file', () => {
  const golden = { source: 'x', cases: [{ prompt_ids: [1], greedy_ids: [1], logits_file: 'logits.f32' }] };
  const directory = makeDirectory({ 'golden.json': golden });
  execFileSync('mkfifo', [join(directory, 'logits.f32')]);
  const { message } = refusalOf(() => readGolden(join(directory, 'golden.json')));
  expect(message).toBe(`${join(directory, 'logits.f32')} is a pipe, not a plain file`);
});

const sizes: [file: string, read: (directory: string) => unknown, most: number][] = [
  ['config.json', readModelDims, 16_000_000],
  ['model.safetensors.index.json', readTensors, 64_000_000],
  ['tokenizer.json', loadTokenizer, 128_000_000],
  ['tokenizer_config.json', chatTemplate, 16_000_000],
  ['chat_template.jinja', chatTemplate, 2_000_000],
  ['generation_config.json', readGenerationConfig, 16_000_000],
  ['golden.json', (directory) => readGolden(join(directory, 'golden.json')), 256_000_000],
];

test.each(sizes)('%s of three gigabytes is refused by its size, unread', (file, read, most) => {
  const path = join(makeDirectory({ [file]: '{' }), file);
  truncateSync(path, 3_000_000_000);
  const { message, kind } = refusalOf(() => read(join(path, '..')));
  expect(message).toBe(`${path} has 3000000000 bytes, more than ${most}`);
  expect(kind).toBe('usage');
});

describe('JSON that nests 10,000 levels deep', () => {
  const deep = `${'['.repeat(10_000)}${']'.repeat(10_000)}`;
  const inObject = `{"added_tokens": ${deep}, "weight_map": ${deep}, "cases": ${deep}, "eos_token_id": ${deep}}`;

  test.each(files.filter(([file]) => file.endsWith('.json')))('is refused in %s', (file, read) => {
    for (const text of [deep, inObject]) {
      const path = join(makeDirectory({ [file]: text }), file);
      expect(refusalOf(() => read(join(path, '..'))).message).toBe(`${path} nests more than 100 levels deep`);
    }
  });

  test('is refused in config.json', () => {
    const path = join(makeDirectory({}), 'config.json');
    for (const text of [deep, inObject]) {
      writeFileSync(path, text);
      expect(refusalOf(() => readModelDims(join(path, '..'))).message).toBe(
        `${path} nests more than 100 levels deep`,
      );
    }
  });

  test('is refused in the header of model.safetensors', () => {
    const path = join(makeDirectory({}), 'model.safetensors');
    for (const text of [deep, `{"x": ${deep}}`]) {
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(text.length));
      writeFileSync(path, Buffer.concat([length, Buffer.from(text)]));
      const { message } = refusalOf(() => readTensors(join(path, '..')));
      expect(message).toBe(`${path} nests more than 100 levels deep`);
    }
  });
});

test('a long name in a safetensors header is read as any other', () => {
  const name = 'n'.repeat(9_000_000);
  const text = JSON.stringify({ [name]: { dtype: 'U8', shape: [0], data_offsets: [0, 0] } });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const path = join(makeDirectory({}), 'model.safetensors');
  writeFileSync(path, Buffer.concat([length, Buffer.from(text)]));
  expect([...readTensors(join(path, '..')).keys()]).toEqual([name]);
});

test('a link to a plain file is as good as the file', () => {
  const directory = makeDirectory({});
  copyFileSync(join(tinyDirectory, 'generation_config.json'), join(directory, 'blob'));
  symlinkSync('blob', join(directory, 'generation_config.json'));
  expect(readGenerationConfig(directory).doSample).toBe(readGenerationConfig(tinyDirectory).doSample);
});
