// A model of two kinds of layers on the CPU, held against the reference, and in the simulator; its CUDA sources, which nvcc compiles.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findNvcc } from '../../codegen/build/tools.ts';
import { build, type Kernel, makeSchedule } from '../../codegen/index.ts';
import { schemeOf } from '../../codegen/schemes/index.ts';
import { resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { openEngine } from '../../load.ts';
import { greedy } from '../../runtime/engine/options.ts';
import { changedKernel } from '../support/changed-kernel.ts';
import { replyWithLogprobs } from '../support/choices.ts';
import { quickNvcc } from '../support/quick-nvcc.ts';
import { read } from '../support/read-reply.ts';
import { thorough } from '../support/thorough.ts';
import {
  kernelOfTwoKinds,
  makeTwoKinds,
  type TwoKinds,
  verifyTwoKinds,
  worstOf,
} from '../support/two-kinds.ts';

const root = mkdtempSync(join(tmpdir(), 'layer-kinds-'));
let model: TwoKinds;
beforeAll(async () => {
  model = await makeTwoKinds(root);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const kernelOf = async (target: string, plan: string) =>
  kernelOfTwoKinds(model, resolveTarget(target), await resolvePlan(plan));

describe.each(['cooperative', 'unfused'])('plan %s on the CPU', (plan) => {
  test('gives the logits and tokens of the reference', async () => {
    const result = await verifyTwoKinds(model, await kernelOf('cpu', plan));
    expect(result.cases.flatMap(({ problems }) => problems)).toEqual([]);
    expect(result.ok).toBe(true);
  });
});

test('drafts, of which each has a window of its own, change no token and no log probability', async () => {
  const kernel = await kernelOf('cpu', 'cooperative');
  const { schedule } = kernel;
  const { engine } = await openEngine(
    {
      ...(await build(kernel)),
      ...{
        dims: model.dims,
        planReason: null,
        modelDirectory: model.folder,
        target: schedule.target,
        kernel,
      },
    },
    { context: 256 },
  );
  await using _ = engine;
  const prompt = Array.from({ length: 90 }, (_, i) => ((i % 9) + 1) * 31);
  const sampling = { ...greedy(engine.vocab), temperature: 0.5, top_k: 3, seed: 2 };
  const speculate = { tokens: 7, ngram: 1 };
  for (const options of [{ maxTokens: 150 }, { maxTokens: 150, sampling }]) {
    const plain = await replyWithLogprobs(engine, prompt, { ...options, speculate: 'off', top: 3 });
    expect(await replyWithLogprobs(engine, prompt, { ...options, speculate, top: 3 })).toEqual(plain);
    engine.reset(0);
    const { ids, accepted } = await read(engine.generate(prompt, { ...options, speculate }));
    expect(ids).toEqual(plain.ids);
    expect(accepted).toBeGreaterThan(0);
  }
});

describe('a kernel that goes wrong in one place is far off', () => {
  const changed = (kernel: Kernel, name: string, file: string, from: string, to: string): Kernel => {
    const text = kernel.sources[file]!;
    expect(text.split(from)).toHaveLength(2);
    return changedKernel(kernel, name, file, text.replace(from, to));
  };

  test.each([
    ['no-mask', 'lib/attention.h', 'const int unseen = window == 0 ? 0 :', 'const int unseen = true ? 0 :'],
    ['late-range', 'model.h', '? 0 : position - window + 1', '? 0 : position - window + 2'],
    ['all-rotate', 'model.h', 'return rotates(layer) ? position : 0;', 'return position;'],
  ])('%s', async (name, file, from, to) => {
    const kernel = changed(await kernelOf('cpu', 'cooperative'), name, file, from, to);
    const result = await verifyTwoKinds(model, kernel);
    expect(result.ok).toBe(false);
    expect(worstOf(result)).toBeGreaterThan(3);
  });
});

test.each(['cooperative', 'unfused', 'stream'])(
  'plan %s: the simulator finds no fault before, at and after the window',
  async (plan) => {
    const small = { hidden: 6, ffn: 8, qHeads: 4, headDim: 2, vocab: 10 };
    const made = makeSchedule({ ...model.dims, ...small }, await resolvePlan(plan), resolveTarget('h100'));
    for (const [seed, position] of [0, 4, 3, 9].entries()) {
      const run = { blocks: 3, warps: 2, tokens: 1 + (seed % 2), position, seed };
      expect(schemeOf(made).simulate(made, run), `position ${position}`).toEqual([]);
    }
  },
);

const nvcc = findNvcc();
describe.skipIf(!nvcc)(nvcc ? 'nvcc' : 'nvcc (skipped: it is not installed)', () => {
  // What golden-kernels.test.ts compiles has layers of one kind, and writes nothing down: both are tried in one run of the compiler.
  test.each([
    ['cooperative', ['-DPROFILE=1'], ...(thorough ? [[]] : [])],
    ['stream', ['-DPROFILE=1'], ...(thorough ? [[]] : [])],
  ])(
    'accepts the CUDA kernel of plan %s that writes down what it does when, and only that reads the clock',
    async (plan, ...flavours) => {
      const { sources } = await kernelOf('h100', plan);
      const folder = join(root, plan);
      for (const [name, text] of Object.entries(sources)) {
        mkdirSync(dirname(join(folder, name)), { recursive: true });
        writeFileSync(join(folder, name), text);
      }
      for (const defined of flavours) {
        // To PTX: what becomes of it is seen where kernels are compiled to the end.
        const target = ['-gencode=arch=compute_90a,code=compute_90a', ...quickNvcc(nvcc!)];
        const flags = ['-std=c++17', '-I.', '-Ihost', ...target, ...defined];
        const { status, stderr } = spawnSync(nvcc!.path, [...flags, '-ptx', 'kernel.cu', '-o', 'k.ptx'], {
          cwd: folder,
          encoding: 'utf8',
        });
        expect(status, stderr).toBe(0);
        const readsClock = readFileSync(join(folder, 'k.ptx'), 'utf8').includes('%clock64');
        expect(readsClock).toBe(defined.length > 0);
      }
    },
  );
});
