// Matrices in blocks on the emulated GPU: a stream makes the logits of the reference over the numbers that the blocks stand for, and faults are noticed.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { type Kernel, stream } from '../../codegen/index.ts';
import type { WeightName } from '../../codegen/model/formats.ts';
import base from '../../configs/plans/stream.ts';
import { openEngine } from '../../load.ts';
import { type Change, replacedIn } from '../support/changed-kernel.ts';
import { cannotEmulate } from '../support/emulate.ts';
import { builtEmulated, verifyEmulated } from '../support/emulate-model.ts';
import { ggufOf, writeGguf } from '../support/gguf.ts';
import { kinds, writeQuantised } from '../support/quantised-model.ts';
import { read } from '../support/read-reply.ts';
import { smallGpu } from '../support/small-gpu.ts';
import { thorough } from '../support/thorough.ts';

const fixture = (name: string) => join(import.meta.dirname, '../fixtures', name);
const folder = mkdtempSync(join(tmpdir(), 'weights-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

/** Codes of a byte of ones are a NaN of the cache. */
const ringOfOnes: Change = [
  'stream/run.cuh',
  'clear(ring, SharedMemory<T>::kSlots * kSlotBytes);',
  'for (int i = thread; i < SharedMemory<T>::kSlots * kSlotBytes; i += threads) ring[i] = char(0xff);',
];

const withChange = (kernel: Kernel, change: Change): Kernel => replacedIn(kernel, 'changed', [change]);

const why = cannotEmulate();
describe.skipIf(why !== null)(why ? `emulated (skipped: ${why})` : 'emulated', () => {
  const problemsOf = async (
    model: string,
    target: string,
    weights: WeightName | undefined,
    changes: readonly Change[] = [],
  ) => {
    const { cases } = await verifyEmulated({
      ...{ model, weights, plan: 'stream', target: smallGpu(folder, target, 4) },
      change: (kernel) => changes.reduce(withChange, kernel),
    });
    return cases.flatMap(({ problems }) => problems);
  };

  test.each([
    ['qwen3-micro', 'h100', 'int8'],
    ['llama3-micro', 'a100', 'int4'],
    ['qwen2-micro', 'h100', 'mixed'],
    ['llama3-micro', 'a100', 'fp8'],
    ['qwen3-micro', 'h100', 'int4-asym'],
  ] as const)('%s on %s in %s', async (model, target, weights) => {
    expect(await problemsOf(fixture(model), target, weights)).toEqual([]);
  });

  test.each(['h100', 'a100'])('branches, scores and logits are multiplied on %s', async (target) => {
    expect(await problemsOf(fixture('granite-micro'), target, undefined)).toEqual([]);
  });

  test.each(['packed int4', 'fp8, blocks of 128', 'AWQ, groups of 128'])(
    'codes of a file are kept, beside an embedding of plain numbers: %s',
    async (kind) => {
      const model = join(folder, kind.replaceAll(/\W/g, '-'));
      writeQuantised(fixture('qwen3-micro'), model, kinds[kind]!);
      expect(await problemsOf(model, 'h100', undefined)).toEqual([]);
    },
  );

  test('an embedding and a head with minima, which are one matrix: a file of Q4_1', async () => {
    const model = writeGguf(
      join(folder, 'q4_1.gguf'),
      ggufOf(fixture('qwen3-micro'), () => 'Q4_1'),
    );
    expect(await problemsOf(model, 'h100', undefined)).toEqual([]);
  });

  test('what the ring held before changes nothing', async () => {
    expect(await problemsOf(fixture('qwen3-micro'), 'h100', 'int8', [ringOfOnes])).toEqual([]);
    const unmasked: Change = ['model.h', 'kCodes = true', 'kCodes = false'];
    const wrong = problemsOf(fixture('qwen3-micro'), 'h100', 'int8', [ringOfOnes, unmasked]);
    await expect(wrong).rejects.toThrow('not finite');
  });

  test.runIf(thorough)('nor where sequences share a pass', async () => {
    const plan = base.with('batches', {}, stream({ tokens: 4 }));
    const built = await builtEmulated({
      ...{ model: fixture('qwen3-micro'), weights: 'int8', plan, target: smallGpu(folder, 'h100', 4) },
      change: (kernel) => withChange(kernel, ringOfOnes),
    });
    const { engine } = await openEngine(built, { context: 32, sequences: 2 });
    await using _ = engine;
    await using first = engine.open();
    await using second = engine.open();
    const say = (sequence: typeof first) => read(sequence.generate([3, 5], { maxTokens: 3 }));
    const together = await Promise.all([first, second].map(say));
    first.reset(0);
    const { ids } = await say(first);
    expect(together.map((reply) => reply.ids)).toEqual([ids, ids]);
  });

  test.each<[string, ...Change]>([
    [
      'the scale of another row',
      'stream/formats.cuh',
      '(opaque(::lane()) >> 2) * 2',
      '(opaque(::lane()) >> 3) * 2',
    ],
    [
      'columns in another order',
      'stream/formats.cuh',
      'q[0] | q[2] << 8 | q[1] << 16',
      'q[0] | q[1] << 8 | q[2] << 16',
    ],
    ['a sign that is lost', 'stream/formats.cuh', 'masked_or(x, 0x00800080, 0xc300c300)', '0xc300c300'],
    ['a slot that is not waited for', 'stream/cta.cuh', 'if (there >= count) return;', 'return;'],
    ['a kept place of another row', 'stream/product.cuh', '(lane() >> 2 & 3)', '(lane() >> 2 & 2)'],
  ])('%s is noticed', async (_, ...change) => {
    const model = unevenRows();
    let found: string[] = [];
    for (const seed of ['1', '2', '3', '4', '5', '6']) {
      vi.stubEnv('ONELAUNCH_EMULATOR_SEED', seed); // the order of threads, by which a copy comes late enough
      expect(await problemsOf(model, 'h100', 'int8')).toEqual([]);
      const problems = problemsOf(model, 'h100', 'int8', [change]);
      found = await problems.catch(({ message }: Error) => [message]); // numbers that are none end it
      if (found.length > 0) break;
    }
    expect(found).not.toEqual([]);
  });

  test.each<[string, ...Change]>([
    ['no minimum', 'stream/product.cuh', 'fmaf(by.y, ', 'fmaf(0 * by.y, '],
    ['that of another row', 'stream/formats.cuh', '(opaque(::lane()) & 3) * 8', '(opaque(::lane()) & 2) * 8'],
  ])('%s is noticed in int4-asym', async (_, ...change) => {
    const found = problemsOf(unevenRows(), 'h100', 'int4-asym', [change]).catch(({ message }: Error) => [
      message,
    ]);
    expect(await found).not.toEqual([]);
  });
});

/** A model whose neighbouring rows of up_proj differ by a factor of 64, and their scales with them. */
function unevenRows(): string {
  const model = join(folder, 'uneven');
  cpSync(fixture('qwen3-micro'), model, { recursive: true });
  const path = join(model, 'model.safetensors');
  const file = readFileSync(path);
  const begin = 8 + Number(file.readBigUInt64LE());
  const header = JSON.parse(file.toString('utf8', 8, begin)) as Record<
    string,
    { shape: [number, number]; data_offsets: [number, number] }
  >;
  for (const [name, { shape, data_offsets: at }] of Object.entries(header)) {
    if (!name.endsWith('up_proj.weight')) continue;
    const bits = new Uint16Array(file.buffer, file.byteOffset + begin + at[0], shape[0] * shape[1]);
    const exponents = (row: number) => (row % 2 === 1 ? 3 : -3) << 7;
    bits.forEach((x, i) => {
      if ((x & 0x7fff) !== 0) bits[i] = x + exponents(Math.floor(i / shape[1]));
    });
  }
  writeFileSync(path, file);
  return model;
}
