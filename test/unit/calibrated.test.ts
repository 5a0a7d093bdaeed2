// gen quantize --calibrate: matrices by their inputs over a text, in the layout that there is without one.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { referenceForward } from '../../runtime/reference/reference.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { fixture } from '../support/changed-models.ts';
import { calibrationText, copyWithTokenizer } from '../support/micro-tokenizer.ts';
import { thorough } from '../support/thorough.ts';

const root = mkdtempSync(join(tmpdir(), 'onelaunch-calibrated-'));
afterAll(() => rmSync(root, { recursive: true }));
const text = join(root, 'text.txt');
writeFileSync(text, calibrationText(200));
const models = new Map<string, string>();
function model(name: string): string {
  if (!models.has(name)) models.set(name, copyWithTokenizer(fixture(name), join(root, name)));
  return models.get(name)!;
}

async function gen(argv: readonly string[], signal?: AbortSignal) {
  const { io, written } = memoryIo(signal ? { signal } : {});
  return { code: await run(['quantize', ...argv], io), ...written };
}

let made = 0;
async function quantised(name: string, ...more: string[]): Promise<string> {
  const out = join(root, `out-${made++}`);
  const { code, err } = await gen([model(name), '--out', out, ...more]);
  expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
  return out;
}
const calibrated = (name: string, format: string, threads = 1) =>
  quantised(name, '--weights', format, '--calibrate', text, '--tokens', '400', '--threads', String(threads));

/** Squares of what logits over the text lose. */
function lost(name: string, folder: string): number {
  const { encode, plain } = loadTokenizer(model(name));
  const ids = encode(plain(readFileSync(text, 'utf8'))).slice(0, 250);
  const [ours, right] = [folder, model(name)].map((one) => {
    const { dims, tensors } = readReferenceModel(one);
    return referenceForward(dims, tensors, ids);
  });
  return ours!.reduce((sum, x, i) => sum + (x - right![i]!) ** 2, 0);
}

// Phi-3 has rows of several matrices in one.
test.each([
  ['qwen3-micro', 'int4'],
  ...(thorough
    ? ([
        ['qwen3-micro', 'fp8'],
        ['phi3-micro', 'int4'],
      ] as const)
    : []),
] as const)(
  '%s in %s loses less over its text than by rounding to nearest, in the same layout',
  async (name, format) => {
    const [ours, nearest] = [await calibrated(name, format), await quantised(name, '--weights', format)];
    const layout = (folder: string) =>
      [...readTensors(folder)].map(([tensor, { dtype, shape }]) => [tensor, dtype, shape]);
    expect(layout(ours)).toEqual(layout(nearest));
    expect(readdirSync(ours)).toEqual(readdirSync(nearest));
    expect(readFileSync(join(ours, 'config.json'))).toEqual(readFileSync(join(nearest, 'config.json')));
    expect(lost(name, ours)).toBeLessThan(lost(name, nearest));
  },
);

test('one thread and two give the same bytes', async () => {
  const [a, b] = [await calibrated('qwen3-micro', 'int4', 1), await calibrated('qwen3-micro', 'int4', 2)];
  const bytes = (folder: string) => readFileSync(join(folder, 'model.safetensors'));
  expect(bytes(a).equals(bytes(b))).toBe(true);
});

describe('refused, with nothing left', () => {
  const out = join(root, 'new');
  test.each<[string, () => readonly string[], RegExp, RegExp]>([
    [
      '--threads alone',
      () => [model('qwen3-micro'), '--threads', '2'],
      /--threads is of --calibrate/,
      /--calibrate FILE/,
    ],
    [
      '--tokens alone',
      () => [model('qwen3-micro'), '--tokens', '20'],
      /--tokens is of the text/,
      /--calibrate FILE/,
    ],
    [
      'a text that is too short',
      () => [model('qwen3-micro'), '--calibrate', text],
      /tokens that count, 16384 are asked for/,
      /--tokens \d+/,
    ],
    [
      'no such file',
      () => [model('qwen3-micro'), '--calibrate', join(root, 'none')],
      /no file .*none/,
      /plain file/,
    ],
    ['a model without a tokenizer', () => [fixture('qwen3-micro'), '--calibrate', text], /tokenizer/, /./],
  ])('%s', async (_, argv, what, hint) => {
    const { code, err, out: said } = await gen([...argv(), '--weights', 'int4', '--out', out]);
    expect({ code, said }).toEqual({ code: 2, said: '' });
    expect(err).toMatch(what);
    expect(err.slice(err.indexOf('hint: '))).toMatch(hint);
    expect(readdirSync(root).filter((name) => name.startsWith('.') || name === 'new')).toEqual([]);
  });
});

test('Ctrl-C while a layer is calibrated leaves nothing', async () => {
  const empty = join(root, 'empty');
  mkdirSync(empty);
  const stop = new AbortController();
  let pauses = 0;
  const wait = () =>
    ++pauses < 12 ? setImmediate(wait) : stop.abort(new DOMException('interrupted', 'AbortError'));
  wait();
  const argv = [
    model('qwen3-micro'),
    '--weights',
    'int4',
    '--calibrate',
    text,
    '--tokens',
    '400',
    '--out',
    empty,
  ];
  expect((await gen(argv, stop.signal)).code).toBe(130);
  expect(readdirSync(empty)).toEqual([]);
  expect(readdirSync(root).filter((name) => name.startsWith('.'))).toEqual([]);
});
