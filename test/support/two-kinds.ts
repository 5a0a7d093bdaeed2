// A toy model of two kinds of layers, which no config.json can say: its dims, its weights, and what the reference makes of it.
import { join } from 'node:path';
import { build, type FusionPlan, generate, type Kernel, type Target } from '../../codegen/index.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { readModelDims } from '../../codegen/model/read-config.ts';
import { openEngine } from '../../load.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import type { Golden, GoldenCase } from '../../runtime/verify/golden.ts';
import { referenceScorer, type Scorer } from '../../runtime/verify/scorers.ts';
import { type VerifyResult, verify } from '../../runtime/verify/verify.ts';
import { type RandomModel, writeRandomModel } from './random-model.ts';

/** Two layers in three see five positions; the third sees all, and does not rotate. */
export const twoKinds: Pick<ModelDims, 'kinds' | 'pattern'> = {
  kinds: [
    { name: 'window', window: 5, rope: true },
    { name: 'full', window: null, rope: false },
  ],
  pattern: ['window', 'window', 'full'],
};

const shape: RandomModel = {
  ...{ type: 'qwen3', dtype: 'bfloat16', hidden: 100, ffn: 150, layers: 5 },
  ...{ qHeads: 6, kvHeads: 2, headDim: 20, vocab: 333, tied: true },
};

export interface TwoKinds {
  readonly folder: string;
  readonly dims: ModelDims;
  readonly golden: Golden;
}

/** Writes the weights into a folder; `golden` is what the reference says of them. */
export async function makeTwoKinds(root: string): Promise<TwoKinds> {
  const folder = join(root, 'two-kinds');
  writeRandomModel(folder, shape);
  const dims = { ...readModelDims(folder), ...twoKinds };
  const { dims: read, tensors } = readReferenceModel(folder);
  const scorer = referenceScorer({ dims: { ...read, ...twoKinds }, tensors });
  const cases: GoldenCase[] = [];
  // One token whose continuation is scored row by row, then prompts of more passes than one, all of them longer than the window in the end.
  for (const [tokens, made] of [
    [1, 40],
    [7, 12],
    [43, 24],
  ] as const) {
    const promptIds = Array.from({ length: tokens }, (_, i) => (17 + i * 7919) % dims.vocab);
    scorer.reset();
    const greedyIds = await scorer.greedy(promptIds, made);
    scorer.reset();
    const expected: GoldenCase['expected'][number][] = [];
    const margin: number[] = [];
    await scorer.score([...promptIds, ...greedyIds], tokens - 1, (row, logits) => {
      expected.push({ row, kind: 'full', logits: logits.slice() });
      const [second, best] = [...logits].sort((a, b) => a - b).slice(-2) as [number, number];
      margin.push(best - second);
    });
    cases.push({ promptIds, greedyIds, margin: margin.slice(0, made), expected });
  }
  const source = 'the built-in reference';
  return { folder, dims, golden: { source, vocab: dims.vocab, decimals: null, nllDecimals: null, cases } };
}

/** The kernel of the toy model. */
export const kernelOfTwoKinds = (
  { dims }: Pick<TwoKinds, 'dims'>,
  target: Target,
  plan: FusionPlan,
  promptPlan: FusionPlan | null = null,
) => generate({ dims, target, plan, promptPlan });

/** Builds a kernel of the toy model, opens it and compares its logits and its tokens with the reference's. @param made it was built before */
export async function verifyTwoKinds(
  model: TwoKinds,
  kernel: Kernel,
  made?: Awaited<ReturnType<typeof build>>,
): Promise<VerifyResult> {
  const { dims, golden, folder } = model;
  const built = made ?? (await build(kernel));
  const { target } = kernel.schedule;
  const { engine } = await openEngine(
    { ...built, dims, planReason: null, modelDirectory: folder, target, kernel },
    { context: 128 },
  );
  const scorer: Scorer = {
    vocab: dims.vocab,
    reset: () => engine.reset(0),
    score: (ids, first, onRows) =>
      engine.scoreRows(ids, first, (rows, token) => {
        for (let i = 0; i * dims.vocab < rows.length; i++)
          onRows(token + i, rows.subarray(i * dims.vocab, (i + 1) * dims.vocab));
      }),
    greedy: async (ids, n) => {
      const made: number[] = [];
      for await (const batch of engine.generate(ids, { maxTokens: n })) made.push(...batch);
      return made;
    },
  };
  try {
    return await verify(scorer, golden, {
      dims,
      dtype: dims.dtype,
      extraRoundings: built.manifest.roundings,
    });
  } finally {
    engine.close();
  }
}

/** The greatest logit error of all cases, in units of what is allowed. */
export const worstOf = ({ cases, tolerance }: VerifyResult): number =>
  Math.max(...cases.map(({ logit }) => logit.error)) / tolerance.logit;
