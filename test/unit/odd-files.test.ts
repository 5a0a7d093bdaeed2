// What stands in the place of a model's file: a pipe, a directory, a device, a file of absurd size, JSON without a bottom.
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadTranscript } from '../../cli/chat/saved.ts';
import { readModelDims } from '../../codegen/model/read-config.ts';
import { resolvePlan } from '../../configs/resolve.ts';
import { readTarget } from '../../configs/target-file.ts';
import { checkDepth, copyOfJson } from '../../files/json-text.ts';
import { readRecord } from '../../lab/calibrate/record.ts';
import { readJournal } from '../../lab/journal.ts';
import { readTexts } from '../../lab/quality-text.ts';
import { readInput } from '../../lab/report/read.ts';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { readGenerationConfig } from '../../runtime/generation-config.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { readGolden } from '../../runtime/verify/golden.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { makeDirectory, tinyDirectory } from '../support/model-directory.ts';
import { refusalOf } from '../support/refusal.ts';

const files: [file: string, read: (directory: string) => unknown][] = [
  ['config.json', readModelDims],
  ['model.safetensors', readTensors],
  ['model.safetensors.index.json', readTensors],
  ['tokenizer.json', loadTokenizer],
  ['tokenizer_config.json', chatTemplate],
  ['chat_template.jinja', chatTemplate],
  ['generation_config.json', readGenerationConfig],
  ['golden.json', (directory) => readGolden(join(directory, 'golden.json'))],
];

/** A reader that is never asked: the file is refused before. */
const noReader = {} as Parameters<typeof readTexts>[1];
const texts = (path: string) => readTexts(path, noReader, 1);

/** Files that no model brings, how each is read, and how its hint begins. */
const ours: [file: string, read: (path: string) => unknown, hint: string][] = [
  ['target.json', readTarget, 'gen calibrate writes such a file'],
  ['target.points.json', readRecord, 'gen calibrate writes one beside the target file'],
  ['explore.jsonl', readJournal, 'a journal is written by gen explore and gen ablate alone'],
  ['figures.json', (path) => readInput([path]), 'leave it out, or measure again'],
  ['notes.txt', texts, 'a text is a plain file, or JSON'],
  ['text.json', texts, 'a text is a plain file, or JSON'],
  ['talk.json', loadTranscript, 'give a file that /save wrote'],
  ['golden.json', readGolden, 'a golden file holds source and cases[]'],
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
});

describe.each(ours)('%s is no file of a model:', (file, read, hint) => {
  const refused = (put: (path: string) => void) => {
    const path = join(makeDirectory({}), file);
    put(path);
    const { message, hint: given, kind } = refusalOf(() => read(path));
    expect(kind).toBe('usage');
    expect(`${given}`).not.toContain("the model's own");
    return { message: message.replaceAll(path, 'FILE'), hint: given };
  };

  test('where there is none, the hint is not to copy it from one', () => {
    expect(refused(() => {}).message).toMatch(/ FILE$/);
  });

  test('nor in the place of a pipe, or of one of absurd size', () => {
    const pipe = refused((path) => execFileSync('mkfifo', [path]));
    expect(pipe.message).toBe('FILE is a pipe, not a plain file');
    expect(pipe.hint).toContain(hint);
    const large = refused((path) => {
      writeFileSync(path, '{');
      truncateSync(path, 3_000_000_000);
    });
    expect(large.message).toContain('FILE has 3000000000 bytes, more than ');
    expect(large.hint).toContain(hint);
  });

  test.runIf(file.endsWith('.json'))('nor where it is cut short', () => {
    expect(refused((path) => writeFileSync(path, '{')).hint).toContain(hint);
  });
});

test.each([
  ['mkfifo', 'a pipe'],
  ['mkdir', 'a directory'],
])('what %s makes is not read as a plan file', async (make, kind) => {
  const path = join(makeDirectory({}), 'plan.ts');
  execFileSync(make, [path]);
  await expect(resolvePlan(path)).rejects.toThrow(`${path} is ${kind}, not a plan file`);
});

// root may read all files.
test.skipIf(process.getuid?.() === 0)('what may not be read says so, not that it be copied', async () => {
  const directory = makeDirectory({ 'target.json': {}, 'plan.ts': '' });
  const [target, plan] = [join(directory, 'target.json'), join(directory, 'plan.ts')];
  for (const path of [target, plan]) chmodSync(path, 0);
  const { message, hint } = refusalOf(() => readTarget(target));
  expect(message).toBe(`${target} cannot be read: EACCES`);
  expect(hint).toBe('See who may read it: ls -l.');
  await expect(resolvePlan(plan)).rejects.toThrow(`plan file ${plan} cannot be read: EACCES`);
});

test('a link to itself is refused as a file', () => {
  const path = join(makeDirectory({}), 'target.json');
  symlinkSync('target.json', path);
  expect(refusalOf(() => readTarget(path)).message).toBe(`${path} cannot be read: ELOOP`);
});

test('a config.json that cannot be looked at is refused as a file, not told as a failure of the program', () => {
  const directory = makeDirectory({});
  const path = join(directory, 'config.json');
  symlinkSync('config.json', path);
  expect(refusalOf(() => readModelDims(directory)).message).toBe(`${path} cannot be read: ELOOP`);
});

// root may enter all folders.
test.skipIf(process.getuid?.() === 0)('the folder of a model that may not be entered says so', () => {
  const directory = makeDirectory({ 'config.json': {} });
  chmodSync(directory, 0);
  const { message, hint } = refusalOf(() => readModelDims(directory));
  chmodSync(directory, 0o700);
  expect(message).toBe(`${join(directory, 'config.json')} cannot be read: EACCES`);
  expect(hint).toBe('See who may read it: ls -l.');
});

test('an empty chat template is named, before a prompt without tokens is', () => {
  const directory = makeDirectory({ 'chat_template.jinja': '\n' });
  const { message } = refusalOf(() => chatTemplate(directory));
  expect(message).toBe(`the chat template in ${join(directory, 'chat_template.jinja')} is empty`);
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

test('JSON may nest 100 levels deep, in a file and from a caller', () => {
  const nested = (levels: number): unknown => JSON.parse(`${'['.repeat(levels)}0${']'.repeat(levels)}`);
  const shared = (levels: number) => [nested(levels - 1), nested(1)];
  for (const nest of [nested, shared]) {
    checkDepth(nest(100), 'x', '');
    expect(copyOfJson(nest(100), 'x', '')).toEqual(nest(100));
    for (const check of [checkDepth, copyOfJson]) {
      expect(refusalOf(() => check(nest(101), 'x', '')).message).toBe('x nests more than 100 levels deep');
    }
  }
  const once = nested(50);
  const under = (levels: number, value: unknown): unknown =>
    levels === 0 ? value : [once, under(levels - 1, value)];
  expect(copyOfJson(under(50, once), 'x', '')).toEqual(under(50, once));
  expect(() => copyOfJson(under(51, once), 'x', '')).toThrow('levels deep');
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
