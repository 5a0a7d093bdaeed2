// Verifies a model on the emulated GPU: node --import tsx test/support/emulate-model.ts MODEL PLAN TARGET [PROMPT_PLAN] [WEIGHTS] [CACHE]
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Manifest } from '../../abi/manifest.ts';
import { described } from '../../codegen/build/describe.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { type FusionPlan, generate, type Kernel } from '../../codegen/index.ts';
import type { CacheName, WeightName } from '../../codegen/model/formats.ts';
import { referenceGolden } from '../../lab/reference-golden.ts';
import { contextFor, engineScorer, storedGolden } from '../../lab/truth.ts';
import { openEngine } from '../../load.ts';
import { preflight } from '../../preflight.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { formatVerify } from '../../runtime/verify/format-verify.ts';
import type { GoldenCase } from '../../runtime/verify/golden.ts';
import { type VerifyResult, verify } from '../../runtime/verify/verify.ts';
import { emulate } from './emulate.ts';

export interface EmulatedCase {
  /** A name, a directory with golden.json, or one in test/fixtures. */
  readonly model: string;
  readonly plan: string | FusionPlan;
  /** For prompts. @default none of their own */
  readonly promptPlan?: string | FusionPlan | undefined;
  readonly target: string;
  /** Formats of matrices; without it those of the model. Golden logits of matrices in blocks are the reference's. */
  readonly weights?: WeightName | undefined;
  /** Format of the KV cache. Golden logits of one with scales are the reference's. @default that of the model */
  readonly cache?: CacheName | undefined;
  /** Cases of the golden file that are verified. @default all */
  readonly cases?: readonly number[] | undefined;
  /** Tokens of each reply that are made, of those in the golden file: each takes seconds. @default all */
  readonly tokens?: number | undefined;
  /** Gives the kernel a fault. */
  readonly change?: (kernel: Kernel) => Kernel;
}

/** What the runtime reads of the manifest of a kernel that is emulated. */
export const emulatedManifest = (kernel: Kernel): Manifest =>
  ({ ...described(kernel, []), paths: [] }) as unknown as Manifest;

/** A kernel compiled for the emulator, with the weights of its model. */
export async function builtEmulated({
  plan,
  promptPlan,
  target,
  weights,
  cache,
  change,
  ...asked
}: EmulatedCase) {
  const fixture = join(packageRoot(), 'test', 'fixtures', asked.model);
  const model = existsSync(fixture) ? fixture : asked.model;
  const checked = await preflight({ model, plan, promptPlan, target, weights, cache }, { weights: true });
  const generated = await generate(checked);
  const kernel = change ? change(generated) : generated;
  const library = await emulate(kernel);
  const manifest = emulatedManifest(kernel);
  const { directory: modelDirectory } = checked;
  return {
    ...checked,
    ...{ modelDirectory, kernel, manifest, library, directory: '', cached: true, millis: 0 },
  };
}

/** An engine on the emulated GPU. */
export async function openEmulated(asked: EmulatedCase, context: number): Promise<Engine> {
  return (await openEngine(await builtEmulated(asked), { context })).engine;
}

/** Compiles a kernel for the emulator; the function that is returned verifies it. */
export async function prepareEmulated(asked: EmulatedCase): Promise<() => Promise<VerifyResult>> {
  const { model, cases, tokens = Number.POSITIVE_INFINITY } = asked;
  const built = await builtEmulated(asked);
  const { dims, kernel, manifest, modelDirectory } = built;
  const { functions } = kernel.plan;
  const stored =
    (await storedGolden(dims, modelDirectory, functions, undefined)) ??
    (modelDirectory &&
      (dims.weights || dims.cache) &&
      (await referenceGolden(modelDirectory, () => {}, {
        ops: functions,
        formats: dims.weights,
        cache: dims.cache,
      })));
  if (!stored) throw new Error(`there is no golden.json of ${model}`);
  const chosen = cases ? cases.map((index) => stored.cases[index]!) : stored.cases;
  const golden = { ...stored, cases: chosen.map((one) => begin(one, tokens)) };
  return async () => {
    const { engine } = await openEngine(built, { context: contextFor(golden, dims, undefined) });
    try {
      const scorer = engineScorer(engine, new AbortController().signal);
      return await verify(scorer, golden, { dims, dtype: dims.dtype, extraRoundings: manifest.roundings });
    } finally {
      engine.close();
    }
  };
}

/** A case whose reply has so many tokens. */
function begin(one: GoldenCase, tokens: number): GoldenCase {
  const ids = one.promptIds.length + tokens;
  const { nll, ...rest } = one;
  return {
    ...rest,
    greedyIds: one.greedyIds.slice(0, tokens),
    ...(one.margin && { margin: one.margin.slice(0, tokens) }),
    ...(nll && nll.rows < ids && { nll }),
    expected: one.expected.filter(({ row }) => row < ids - 1),
  };
}

export const verifyEmulated = async (asked: EmulatedCase): Promise<VerifyResult> =>
  (await prepareEmulated(asked))();

const [, script, model, plan, target, promptPlan, weights, cache] = process.argv;
if (script === import.meta.filename) {
  if (!model || !plan || !target)
    throw new Error('usage: emulate-model.ts MODEL PLAN TARGET [PROMPT_PLAN] [WEIGHTS] [CACHE]');
  const started = performance.now();
  const verifyIt = await prepareEmulated({
    ...{ model, plan, target },
    promptPlan: promptPlan || undefined,
    weights: (weights || undefined) as WeightName | undefined,
    cache: cache as CacheName | undefined,
  });
  const compiled = performance.now();
  const result = await verifyIt();
  const seconds = (from: number, to: number) => ((to - from) / 1000).toFixed(1);
  console.log(formatVerify(result));
  console.log(
    `${seconds(started, compiled)} s to compile, ${seconds(compiled, performance.now())} s to verify`,
  );
  process.exitCode = result.ok ? 0 : 1;
}
