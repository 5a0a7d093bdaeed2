// Verifies a model on the emulated GPU: node --import tsx test/support/emulate-model.ts MODEL PLAN TARGET [PROMPT_PLAN]

import type { Manifest } from '../../abi/manifest.ts';
import { described } from '../../codegen/build/describe.ts';
import { type FusionPlan, generate, type Kernel } from '../../codegen/index.ts';
import { contextFor, engineScorer, storedGolden } from '../../lab/truth.ts';
import { openEngine } from '../../load.ts';
import { preflight } from '../../preflight.ts';
import { formatVerify } from '../../runtime/format-verify.ts';
import { type VerifyResult, verify } from '../../runtime/verify.ts';
import { type EmulateOptions, emulate } from './emulate.ts';

interface Case extends EmulateOptions {
  /** A directory with golden.json. */
  readonly model: string;
  readonly plan: string;
  readonly target: string;
  /** For prompts. @default none of their own */
  readonly promptPlan?: string | FusionPlan | undefined;
  /** Cases of the golden file that are verified. @default all */
  readonly cases?: readonly number[];
  /** The kernel with faults. */
  readonly change?: (kernel: Kernel) => Kernel;
}

/** What the runtime reads of the manifest of a kernel that is emulated. */
export const emulatedManifest = (kernel: Kernel): Manifest =>
  ({ ...described(kernel), paths: [] }) as unknown as Manifest;

/** The result of verify for a kernel that is emulated. */
export async function verifyEmulated({
  model,
  plan,
  target,
  promptPlan,
  cases,
  change,
  ...options
}: Case): Promise<VerifyResult> {
  const checked = await preflight({ model, plan, promptPlan, target }, { weights: true });
  const { dims, directory: modelDirectory, files } = checked;
  const generated = await generate(checked);
  const kernel = change ? change(generated) : generated;
  const library = await emulate(kernel, options);
  const stored = (await storedGolden(dims, modelDirectory, kernel.plan.functions, undefined))!;
  const golden = cases ? { ...stored, cases: cases.map((index) => stored.cases[index]!) } : stored;
  const manifest = emulatedManifest(kernel);
  const { engine } = await openEngine(
    { ...checked, modelDirectory, kernel, manifest, library, directory: '', cached: true, millis: 0, files },
    { context: contextFor(golden, dims, undefined) },
  );
  try {
    const scorer = engineScorer(engine, new AbortController().signal);
    return await verify(scorer, golden, { dims, dtype: dims.dtype, extraRoundings: manifest.roundings });
  } finally {
    engine.close();
  }
}

const [, script, model, plan, target, promptPlan] = process.argv;
if (script === import.meta.filename) {
  if (!model || !plan || !target) throw new Error('usage: emulate-model.ts MODEL PLAN TARGET [PROMPT_PLAN]');
  const started = performance.now();
  const result = await verifyEmulated({ model, plan, target, promptPlan });
  console.log(formatVerify(result));
  console.log(`${((performance.now() - started) / 1000).toFixed(1)} s`);
  process.exitCode = result.ok ? 0 : 1;
}
