// A KV cache in int8 on the CPU: what it holds, what is computed from it, and that sequences, drafts and copies know nothing of it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { referenceGolden } from '../../lab/reference-golden.ts';
import { engineScorer } from '../../lab/truth.ts';
import { type BuiltKernel, buildKernel, openEngine } from '../../load.ts';
import { referenceCache, referenceForward } from '../../runtime/reference/reference.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { type Golden, readGolden } from '../../runtime/verify/golden.ts';
import type { Scorer } from '../../runtime/verify/scorers.ts';
import { verify } from '../../runtime/verify/verify.ts';
import { poison, strange } from '../support/poisoned.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';
import { thorough } from '../support/thorough.ts';

const model = join(packageRoot(), thorough ? 'models/qwen3-tiny' : 'test/fixtures/qwen3-micro');
const folder = mkdtempSync(join(tmpdir(), 'cache-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let built: BuiltKernel;
let rounded: Golden;
beforeAll(async () => {
  built = await buildKernel({ model, target: 'cpu', cache: 'int8' });
  rounded = await referenceGolden(model, () => {}, { cache: 'int8' });
});

const { signal } = new AbortController();
const ids = Array.from({ length: 70 }, (_, i) => ((i % 11) * 37 + i) % 512);
const verified = (scorer: Scorer, golden: Golden) =>
  verify(scorer, golden, {
    dims: built.dims,
    dtype: built.dims.dtype,
    extraRoundings: built.manifest.roundings,
  });

test('logits are those of transformers, and those of the reference that rounds as the cache does', async () => {
  const { engine } = await openEngine(built, { context: 128 });
  await using _ = engine;
  const golden = readGolden(join(model, 'golden.json'), built.dims);
  for (const one of [{ ...golden, cases: golden.cases.slice(0, 3) }, rounded]) {
    const { cases } = await verified(engineScorer(engine, signal), one);
    expect(cases.flatMap(({ problems }) => problems)).toEqual([]);
  }
});

/** Of each head of all layers and each position: key and value, a scale and its numbers. */
function rowsOf(bytes: Uint8Array, count: number) {
  const { headDim } = built.dims;
  const rowBytes = built.manifest.bytes.kvPerPosition / (built.dims.layers * built.dims.kvHeads * 2);
  const at = (head: number, position: number, part: number) =>
    ((head * count + position) * 2 + part) * rowBytes;
  return (head: number, position: number, part: number) => {
    const start = bytes.byteOffset + at(head, position, part);
    return {
      scale: new Float32Array(bytes.buffer, start, 1),
      numbers: new Int8Array(bytes.buffer, start + 4, headDim),
    };
  };
}

test('a position has a scale and a byte for each number, none further than half a step from what was computed', async () => {
  const { engine } = await openEngine(built, { context: 128 });
  await using _ = engine;
  await engine.score(ids, ids.length - 1);
  const { layers, kvHeads, headDim, hidden } = built.dims;
  expect(engine.cacheBytes()).toBe(layers * kvHeads * 2 * (4 + headDim));
  const row = rowsOf(engine.readCache(0, ids.length), ids.length);
  const { dims, tensors } = readReferenceModel(model);
  const cache = referenceCache(dims);
  referenceForward(dims, tensors, ids, { cache, firstLogits: ids.length - 1 });
  // In the first layer nothing was rounded before; a norm and a product of `hidden` terms, in steps of a row's largest number.
  const sums =
    127 * 2 ** -24 * Math.sqrt(2 * 2 * hidden) * Math.sqrt(2 * Math.log((ids.length * hidden) / 1e-6));
  for (let head = 0; head < layers * kvHeads; head++) {
    for (let position = 0; position < ids.length; position++) {
      for (const [part, exact] of [cache.keys, cache.values].entries()) {
        const { scale, numbers } = row(head, position, part);
        expect(Math.max(...numbers.map(Math.abs))).toBe(127);
        if (head >= kvHeads) continue;
        const from = (position * kvHeads + head) * headDim;
        const off = Array.from(numbers, (number, i) => Math.abs(number - exact[0]![from + i]! / scale[0]!));
        expect(Math.max(...off)).toBeLessThanOrEqual(0.5 + sums);
      }
    }
  }
});

/** What an engine says that meets a cache with other bytes in it, behind a prompt. */
const withFault = (
  engine: Parameters<typeof engineScorer>[0],
  fault: (bytes: Uint8Array, count: number) => void,
) => {
  const scorer = engineScorer(engine, signal);
  const score: Scorer['score'] = async (all, first, onRows) => {
    await scorer.score(all.slice(0, first), first, onRows);
    const bytes = engine.readCache(0, first);
    fault(bytes, first);
    engine.reset(0);
    engine.writeCache(all.slice(0, first), bytes);
    await engine.scoreRows(all.slice(first), 0, (rows, token) => {
      for (let i = 0; i * scorer.vocab < rows.length; i++)
        onRows(first + token + i, rows.subarray(i * scorer.vocab, (i + 1) * scorer.vocab));
    });
  };
  return { ...scorer, score };
};

test.each<[string, (row: ReturnType<typeof rowsOf>, head: number, position: number) => void, boolean]>([
  ['no fault', () => {}, true],
  ['keys without their scales', (row, head, at) => row(head, at, 0).scale.fill(1), false],
  ['values without theirs', (row, head, at) => row(head, at, 1).scale.fill(1), false],
  [
    'keys and values with the scale of the other',
    (row, head, at) => {
      const [key, value] = [row(head, at, 0).scale, row(head, at, 1).scale];
      [key[0], value[0]] = [value[0]!, key[0]!];
    },
    false,
  ],
  ['keys read a number too far', (row, head, at) => row(head, at, 0).numbers.copyWithin(0, 1), false],
])('verification of %s', async (_name, fault, isRight) => {
  const { engine } = await openEngine(built, { context: 64 });
  await using _ = engine;
  const { layers, kvHeads } = built.dims;
  const scorer = withFault(engine, (bytes, count) => {
    const row = rowsOf(bytes, count);
    for (let head = 0; head < layers * kvHeads; head++)
      for (let position = 0; position < count; position++) fault(row, head, position);
  });
  const { ok } = await verified(scorer, { ...rounded, cases: rounded.cases.slice(1) });
  expect(ok).toBe(isRight);
});

test('drafts, copies and sequences change no bit', async () => {
  const { engine } = await openEngine(built, { context: 256, sequences: 3, threads: 2 });
  await using _ = engine;
  const say = async (speculate: 'off' | { tokens: number; ngram: number }) => {
    engine.reset(0);
    return read(engine.generate(ids, { maxTokens: 60, speculate }));
  };
  const plain = await say('off');
  const drafted = await say({ tokens: 6, ngram: 1 });
  expect(drafted.ids).toEqual(plain.ids);
  expect(drafted.drafted).toBeGreaterThan(0);
  engine.reset(0);

  await using first = engine.open();
  await using second = engine.open();
  await first.score(ids, ids.length - 1);
  second.copyFrom(first, 40);
  await second.score(ids.slice(40, 50), 9);
  const bytes = second.readCache(0, 50);
  const alone = await second.score([1], 0);
  const [one, other] = await Promise.all([first.score([7], 0), second.score([8], 0)]);
  await using third = engine.open();
  third.writeCache(ids.slice(0, 50), bytes);
  expect(await third.score([1], 0)).toEqual(alone);
  expect(await third.score([8], 0)).toEqual(other);
  third.reset(0);
  await third.score(ids, ids.length - 1);
  expect(await third.score([7], 0)).toEqual(one);
});

test('a key that is no number is an error that says where', async () => {
  const { files: _files, ...unread } = built;
  const to = join(folder, 'poisoned');
  poison(model, to, 'model.layers.1.self_attn.k_norm.weight', 5, strange.nan);
  const { engine } = await openEngine({ ...unread, modelDirectory: to }, { context: 64 });
  await using _ = engine;
  const { message } = await failureOf(engine.score(ids.slice(0, 9), 8));
  expect(message).toBe('the logits are not finite at position 8');
});
