// From a model's name to a model that replies: resolve, generate, build (cached), open, load the weights.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Manifest } from './abi/manifest.ts';
import type { BuildProgress, FusionPlan, Kernel } from './codegen/index.ts';
import type { ModelDims } from './codegen/model/dims.ts';
import type { Target } from './codegen/schedule/target.ts';
import { OnelaunchError } from './errors.ts';
import type { Engine } from './runtime/engine.ts';
import type { LanguageModel } from './runtime/model.ts';

/** What load is doing. */
export type LoadProgress =
  /** Compiling, unless that was done before: a step begun or ended, several may run at the same time; or a note for people. */
  | ({ readonly phase: 'build' } & BuildProgress)
  /** Reading and packing the weights [bytes]. */
  | { readonly phase: 'load'; readonly done: number; readonly total: number };

/** Which kernel, and for what. */
export interface KernelOptions {
  /** A known name such as qwen3-0.6b, or the directory of a Hugging Face model. */
  readonly model: string;
  /** cpu, h100, ... @default the GPU found here if it can be used, else cpu */
  readonly target?: string | undefined;
  /** Name of a plan, path of a file that exports one, or a plan. @default the best one for the target */
  readonly plan?: string | FusionPlan | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Ends the load with its reason as the error. */
  readonly signal?: AbortSignal | undefined;
}

export interface LoadOptions extends KernelOptions {
  /** Positions of the KV cache: prompt and reply together. @default 4096, or the most the model was made for */
  readonly context?: number | undefined;
  /** CPU threads. @default as many as physical cores */
  readonly threads?: number | undefined;
  /** GPU ordinal. @default 0 */
  readonly device?: number | undefined;
  /** Random weights in the place of the model's: to measure without a checkpoint. The same seed gives the same weights. */
  readonly randomWeights?: { readonly seed: number } | undefined;
}

/** A kernel whose library is built. */
export interface BuiltKernel {
  readonly dims: ModelDims;
  /** Where weights and tokenizer are; null for a name without files here. */
  readonly modelDirectory: string | null;
  readonly target: Target;
  readonly kernel: Kernel;
  readonly manifest: Manifest;
  /** Path of the library. */
  readonly library: string;
  readonly directory: string;
  /** Why this plan, where none was asked for. */
  readonly planReason: string | null;
  /** The library was there already. */
  readonly cached: boolean;
  /** Resolving, printing and compiling [ms]. */
  readonly millis: number;
}

/** An engine with its weights. */
export interface OpenEngine {
  readonly engine: Engine;
  /** What the user should know of the checkpoint, one line each. */
  readonly warnings: readonly string[];
}

const count = z.int().positive();
const kernelShape = {
  model: z.string().min(1),
  target: z.string().optional(),
  plan: z.union([z.string(), z.looseObject({ name: z.string(), stages: z.array(z.unknown()) })]).optional(),
  onProgress: z.custom((value) => typeof value === 'function', 'expected a function').optional(),
  signal: z.instanceof(AbortSignal).optional(),
};
const loadShape = z.strictObject({
  ...kernelShape,
  context: count.optional(),
  threads: count.optional(),
  device: z.int().nonnegative().optional(),
  randomWeights: z
    .strictObject({
      seed: z
        .int()
        .min(0)
        .max(2 ** 32 - 1),
    })
    .optional(),
});

/** A model that is ready to reply. The first call for a model compiles its kernel, later ones find it.
 *  @throws OnelaunchError: usage for wrong options or files, environment for what this machine lacks, failed otherwise. */
export async function load(options: LoadOptions): Promise<LanguageModel> {
  const { checkArguments } = await import('./runtime/sampling.ts');
  const given = checkArguments(loadShape, options, 'options') as LoadOptions;
  const built = await buildKernel(given, { needsWeights: given.randomWeights === undefined });
  const { engine } = await openEngine(built, given);
  try {
    return await openModel(built, engine);
  } catch (error) {
    engine.close();
    throw error;
  }
}

/** How a kernel is built. */
export interface BuildKernelOptions extends KernelOptions {
  /** Compile what was compiled before. */
  readonly force?: boolean | undefined;
  /** A library for every CPU of this architecture, not only for this machine's. */
  readonly ship?: boolean | undefined;
}

/** Resolves, generates and builds. @param needsWeights refuses a model without files before it is compiled */
export async function buildKernel(
  options: BuildKernelOptions,
  { needsWeights = false }: { readonly needsWeights?: boolean } = {},
): Promise<BuiltKernel> {
  const started = performance.now();
  const codegen = await import('./codegen/index.ts');
  const names = await import('./configs/resolve.ts');
  const { dims, directory: modelDirectory } = names.resolveModel(options.model);
  if (needsWeights && modelDirectory === null) throw noWeights(dims.name);
  const target = names.resolveTarget(options.target);
  const { choosePlan } = await import('./configs/default-plan.ts');
  const { plan, why: planReason } = await choosePlan(options.plan, dims, target);
  const kernel = await codegen.generate({ dims, target, plan });
  const { onProgress, signal } = options;
  signal?.throwIfAborted();
  const built = await codegen.build(kernel, {
    force: options.force ?? false,
    ship: options.ship ?? false,
    signal,
    ...(onProgress && { onProgress: (progress) => onProgress({ phase: 'build', ...progress }) }),
  });
  return { ...built, dims, modelDirectory, target, kernel, planReason, millis: performance.now() - started };
}

/** Opens a built library and loads its weights. The caller closes the engine. */
export async function openEngine(
  built: BuiltKernel,
  options: Omit<LoadOptions, keyof KernelOptions> & Pick<KernelOptions, 'onProgress' | 'signal'>,
): Promise<OpenEngine> {
  const { manifest } = built;
  const { maxPositions } = built.dims;
  const context = options.context ?? Math.min(maxPositions, 4096);
  if (context > maxPositions) {
    throw new OnelaunchError(
      'usage',
      `a context of ${context} is more than ${built.dims.name} was made for`,
      {
        hint: `At most ${maxPositions} positions.`,
      },
    );
  }
  const [{ Engine }, plans, { readTensors }] = await Promise.all([
    import('./runtime/engine.ts'),
    import('./runtime/load-plan.ts'),
    import('./runtime/safetensors.ts'),
  ]);
  if (!options.randomWeights && built.modelDirectory === null) throw noWeights(built.dims.name);
  const { sources, warnings } = options.randomWeights
    ? { sources: plans.randomPlan(manifest, options.randomWeights.seed), warnings: [] }
    : plans.loadPlan(manifest, readTensors(built.modelDirectory!));
  const { onProgress, signal } = options;
  const engine = await Engine.open(built.library, manifest, {
    context,
    ...(options.threads !== undefined && { threads: options.threads }),
    ...(options.device !== undefined && { device: options.device }),
  });
  try {
    await engine.load(sources, {
      ...(signal && { signal }),
      ...(onProgress && {
        onProgress: (done: number, total: number) => onProgress({ phase: 'load', done, total }),
      }),
    });
  } catch (error) {
    engine.close();
    throw error;
  }
  return { engine, warnings };
}

/** The model over an engine that has its weights. */
export async function openModel(built: BuiltKernel, engine: Engine): Promise<LanguageModel> {
  const [{ LanguageModel }, { greedy, readGenerationConfig }] = await Promise.all([
    import('./runtime/model.ts'),
    import('./runtime/generation-config.ts'),
  ]);
  const directory = built.modelDirectory;
  const parts = { engine, manifest: built.manifest };
  if (directory === null || !existsSync(join(directory, 'tokenizer.json'))) {
    const defaults = directory === null ? greedy : readGenerationConfig(directory);
    return new LanguageModel({ ...parts, defaults, tokenizer: null, template: null });
  }
  const [{ loadTokenizer }, { chatTemplate }] = await Promise.all([
    import('./runtime/tokenizer.ts'),
    import('./runtime/chat-template.ts'),
  ]);
  return new LanguageModel({
    ...parts,
    defaults: readGenerationConfig(directory),
    tokenizer: loadTokenizer(directory),
    template: () => chatTemplate(directory),
  });
}

function noWeights(model: string): OnelaunchError {
  return new OnelaunchError('usage', `there are no weights of ${model} here`, {
    hint: 'Give the directory of its checkpoint as the model, or ask for random weights (--random-weights).',
  });
}
