// From a model's name to a model that replies: resolve, generate, build (cached), open, load the weights.
import { z } from 'zod';
import type { Manifest } from './abi/manifest.ts';
import type { BuildOptions, BuildProgress, Kernel } from './codegen/index.ts';
import type { ModelDims } from './codegen/model/dims.ts';
import { cacheNames, weightNames } from './codegen/model/formats.ts';
import type { Target } from './codegen/schedule/target.ts';
import { usualContext } from './codegen/settle-context.ts';
import type { DraftOption } from './load-draft.ts';
import { plainObject } from './plain-object.ts';
import type { AskedKernel, CheckedModel, ModelFiles, Needs } from './preflight.ts';
import type { Engine } from './runtime/engine/engine.ts';
import { mostSequences, mostThreads } from './runtime/engine/limits.ts';
import type { LanguageModel } from './runtime/model.ts';
import type { LoadPlan } from './runtime/weights/load-plan.ts';
import type { Tensors } from './runtime/weights/safetensors.ts';

/** What load is doing. */
export type LoadProgress =
  /** Compiling, unless that was done before: a step begun or ended, several may run at the same time; or a note for people. */
  | ({ readonly phase: 'build' } & BuildProgress)
  /** Reading and packing the weights [bytes]. */
  | { readonly phase: 'load'; readonly done: number; readonly total: number };

/** Which kernel, and for what. */
export interface KernelOptions extends AskedKernel {
  /** Hears of builds and of weights that are read. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Ends the load with its reason as the error. */
  readonly signal?: AbortSignal | undefined;
}

/** Which model, in which kernel, with how much room; all but the model has a default. */
export interface LoadOptions extends KernelOptions {
  /** Positions of the KV cache: prompt and reply together. @default 4096, or the most the model was made for */
  readonly context?: number | undefined;
  /** Replies that can run at a time, up to 16, in shared passes; each has a KV cache of `context` positions. @default 1 */
  readonly parallel?: number | undefined;
  /** Most replies that wait while as many run, first come, first served; one more is refused as busy, and with 0 each one. A reply that waits ends
   *  with finish 'abort' when its signal is aborted. @default as many as come */
  readonly queue?: number | undefined;
  /** CPU threads, up to 1024; refused where `target` names a GPU. @default as many as physical cores */
  readonly threads?: number | undefined;
  /** GPU ordinal. @default 0 */
  readonly device?: number | undefined;
  /** Random weights in the place of the model's: to measure without a checkpoint. The same seed gives the same weights. */
  readonly randomWeights?: { readonly seed: number } | undefined;
  /** The model makes embeddings, and no replies: its head is replaced, and hands on hidden states. @default false */
  readonly embeddings?: boolean | undefined;
  /** A smaller model of the same tokenizer that drafts tokens for this one to check: replies stay the same, and come faster where it is often
   *  right. Its name, or `{ model, weights, plan, ... }`; the same model with weights int4 is one, too. One reply at a time has drafts. @default none */
  readonly draft?: DraftOption | undefined;
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
  /** What was read of the model's files before the build. */
  readonly files?: ModelFiles;
  /** What the user should know of the model's files, one line each. */
  readonly notes?: readonly string[];
}

/** An engine with its weights. */
export interface OpenEngine {
  readonly engine: Engine;
  /** What the user should know of the checkpoint, one line each. */
  readonly warnings: readonly string[];
  /** Which weights they are. */
  readonly weights: string;
}

const count = z.int().positive();
const plan = z.union([z.string(), z.looseObject({ name: z.string(), stages: z.array(z.unknown()) })]);
const askedShape = {
  model: z.string().min(1),
  target: z.string().optional(),
  plan: plan.optional(),
  promptPlan: plan.optional(),
  weights: z.enum(weightNames).optional(),
  cache: z.enum(cacheNames).optional(),
};
const kernelShape = {
  ...askedShape,
  onProgress: z.custom((value) => typeof value === 'function', 'expected a function').optional(),
  signal: z.instanceof(AbortSignal).optional(),
};
const { model, ...otherKernelShape } = kernelShape;
const besideModel = {
  ...otherKernelShape,
  context: count.optional(),
  parallel: count.max(mostSequences).optional(),
  queue: z.int().nonnegative().optional(),
  threads: count.max(mostThreads).optional(),
  device: z.int().nonnegative().optional(),
  randomWeights: plainObject({
    seed: z
      .int()
      .min(0)
      .max(2 ** 32 - 1),
  }).optional(),
  embeddings: z.boolean().optional(),
  draft: z.union([askedShape.model, plainObject(askedShape)]).optional(),
};
const loadShape = plainObject({ model, ...besideModel });
const besideName = plainObject(besideModel);

/** A model that is ready to reply, by its name or directory. The first call for a model compiles its kernel, later ones find it.
 *  @throws OnelaunchError: usage for wrong options or files, environment for what this machine lacks, failed otherwise. Of its classes
 *  ModelNotSupportedError, BuildError and InsufficientMemoryError. */
export function load(model: string, options?: Omit<LoadOptions, 'model'>): Promise<LanguageModel>;
export function load(options: LoadOptions): Promise<LanguageModel>;
export async function load(...asked: readonly unknown[]): Promise<LanguageModel> {
  try {
    return await loadChecked(asked);
  } catch (error) {
    const [{ ofPermissions }, { ofAllocation }] = await Promise.all([
      import('./files/permissions.ts'),
      import('./errors.ts'),
    ]);
    throw ofPermissions(ofAllocation(error));
  }
}

async function loadChecked([asked, options]: readonly unknown[]): Promise<LanguageModel> {
  // A bundle is told what it lacks before anything else of it fails.
  (await import('./codegen/build/package-root.ts')).packageRoot();
  const { checkArguments } = await import('./runtime/sampling.ts');
  const isName = typeof asked === 'string';
  if (!isName && options !== undefined) {
    const { OnelaunchError } = await import('./errors.ts');
    throw new OnelaunchError('usage', 'load is given options twice', {
      hint: "Write load('NAME', options), or load({ model: 'NAME', ...options }).",
    });
  }
  const given = checkArguments(loadShape, isName ? { model: asked } : asked, 'options');
  const more = options === undefined ? {} : checkArguments(besideName, options, 'options');
  return loadGiven({ ...more, ...given } as LoadOptions);
}

/** By options that were checked one by one. */
async function loadGiven(given: LoadOptions): Promise<LanguageModel> {
  given.signal?.throwIfAborted();
  if (given.embeddings && given.randomWeights) {
    const { OnelaunchError } = await import('./errors.ts');
    throw new OnelaunchError('usage', 'options has both embeddings and randomWeights', {
      hint: 'Random weights are there to measure replies.',
    });
  }
  const { draft, device, context, threads, parallel: sequences } = given;
  const run = { device, context, threads, sequences, usual: true };
  const drafting = draft === undefined ? null : await import('./load-draft.ts');
  let checkedDraft: CheckedModel | undefined;
  const onChecked = async (checked: CheckedModel) => {
    checkedDraft = await drafting?.checkDraft(draft!, checked, { ...given, ...run });
  };
  const built = await buildKernel(
    { ...given, onChecked },
    {
      weights: given.randomWeights === undefined,
      tokenizer: 'optional',
      embeddings: given.embeddings,
      run,
    },
  );
  const { engine, ...opened } = await openEngine(built, { ...given, sequences: given.parallel });
  try {
    if (checkedDraft) await openDraft(checkedDraft, built, engine, given);
    const { parallel, queue, embeddings } = given;
    return await openModel(built, engine, { ...opened, parallel, queue, embeddings });
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
  /** A library that writes down what it does when. */
  readonly profile?: boolean | undefined;
  /** Waited for when nothing wrong was found, before anything is compiled. An error it throws ends the build. */
  readonly onChecked?: ((checked: CheckedModel) => Promise<void>) | undefined;
}

/** Checks, generates and builds. @param needs what else is checked before anything is compiled */
export async function buildKernel(options: BuildKernelOptions, needs: Needs = {}): Promise<BuiltKernel> {
  const started = performance.now();
  const { onProgress, signal } = options;
  const { preflight } = await import('./preflight.ts');
  const checked = await preflight(options, needs);
  const how: BuildOptions = {
    force: options.force ?? false,
    ship: options.ship ?? false,
    profile: options.profile ?? false,
    signal,
    ...(onProgress && { onProgress: (progress) => onProgress({ phase: 'build', ...progress }) }),
  };
  const built = await buildChecked(checked, how, () => options.onChecked?.(checked));
  return { ...built, millis: performance.now() - started };
}

/** Of a model that was checked, all that a build takes; without files only random weights can be loaded. */
export interface BuildInput
  extends Pick<CheckedModel, 'dims' | 'plan' | 'target'>,
    Partial<Pick<CheckedModel, 'promptPlan'>> {
  readonly directory?: string | null | undefined;
  readonly planReason?: string | null | undefined;
  readonly files?: ModelFiles | undefined;
  readonly notes?: readonly string[] | undefined;
}

/** Generates and builds what was checked before. @param onGenerated waited for in between */
export async function buildChecked(
  input: BuildInput,
  options: BuildOptions,
  onGenerated?: () => Promise<void> | undefined,
): Promise<BuiltKernel> {
  const codegen = await import('./codegen/index.ts');
  const kernel = await codegen.generate(input);
  options.signal?.throwIfAborted();
  await onGenerated?.();
  const built = await codegen.build(kernel, options);
  const { dims, target, directory = null, planReason = null, files, notes } = input;
  return {
    ...{ ...built, dims, modelDirectory: directory, target, kernel, planReason },
    ...(files && { files }),
    ...(notes && { notes }),
  };
}

type OpenOptions = Omit<LoadOptions, keyof KernelOptions | 'parallel' | 'queue'> &
  Pick<KernelOptions, 'onProgress' | 'signal'> & { readonly sequences?: number | undefined };

/** Positions of the KV cache. @param asked the option of `load` */
export const contextOf = (dims: ModelDims, asked: number | undefined): number => asked ?? usualContext(dims);

/** Opens a built library and loads its weights. The caller closes the engine.
 *  @param options `sequences` as in EngineSettings */
export async function openEngine(built: BuiltKernel, options: OpenOptions): Promise<OpenEngine> {
  const { manifest } = built;
  const context = contextOf(built.dims, options.context);
  const [plans, { checkContext }, { weightsIdentity }] = await Promise.all([
    import('./runtime/weights/load-plan.ts'),
    import('./preflight.ts'),
    import('./runtime/weights/weights-identity.ts'),
  ]);
  checkContext(built.dims, context);
  const { randomWeights } = options;
  if (randomWeights) {
    const plan = { sources: plans.randomPlan(manifest, randomWeights.seed), warnings: [] };
    return openLoaded(built, { ...options, context }, plan, () => `random, seed ${randomWeights.seed}`);
  }
  const tensors = await tensorsOf(built);
  const opened = (read: Tensors) =>
    openLoaded(built, { ...options, context }, plans.loadPlan(manifest, read), () => weightsIdentity(read));
  if (!options.embeddings) return opened(tensors);
  const { duringIdentityHead, withIdentityHead } = await import('./runtime/weights/identity-head.ts');
  return duringIdentityHead(built.dims, (file) => opened(withIdentityHead(tensors, built.dims, file)));
}

/** An engine that has read these weights.
 *  @param weights what tells them from others */
async function openLoaded(
  built: BuiltKernel,
  options: OpenOptions & { readonly context: number },
  { sources, warnings }: LoadPlan,
  weights: () => string,
): Promise<OpenEngine> {
  const { onProgress, signal } = options;
  const engine = await openFitting(built, options);
  try {
    await engine.load(sources, {
      ...(signal && { signal }),
      ...(onProgress && {
        onProgress: (done: number, total: number) => onProgress({ phase: 'load', done, total }),
      }),
    });
    // Read now: the files may be others, or gone, when a conversation is saved.
    return { engine, warnings, weights: weights() };
  } catch (error) {
    engine.close();
    throw error;
  }
}

/** An engine without weights. What this machine's memory is too small for is refused before it is allocated, or told with what would fit. */
async function openFitting(
  { library, manifest, dims, kernel: { schedule } }: BuiltKernel,
  { context, sequences = 1, threads = 0, device = 0 }: OpenOptions & { readonly context: number },
): Promise<Engine> {
  const [{ Engine }, { checkMemory, withWhatFits }, { freeMemory }, { passSizes }] = await Promise.all([
    import('./runtime/engine/engine.ts'),
    import('./enough-memory.ts'),
    import('./free-memory.ts'),
    import('./codegen/memory.ts'),
  ]);
  const room = { context, sequences, threads };
  if (manifest.kind === 'cpu')
    checkMemory([{ dims, passes: passSizes(schedule), onGpu: false, ...room }], freeMemory());
  try {
    return await Engine.open(library, manifest, { ...room, device });
  } catch (error) {
    throw withWhatFits(error, schedule, room);
  }
}

/** What of the options of a load holds for both models. */
export type DraftSettings = Pick<
  LoadOptions,
  'context' | 'threads' | 'device' | 'randomWeights' | 'signal' | 'onProgress'
>;

/** Builds what was checked, loads it, and has it draft for the engine of its model, which closes it from then on. */
export async function openDraft(
  draft: CheckedModel,
  { dims }: Pick<BuiltKernel, 'dims'>,
  engine: Engine,
  { context, threads, device, randomWeights, signal, onProgress }: DraftSettings,
): Promise<BuiltKernel> {
  const built = await buildChecked(draft, {
    ...{ force: false, ship: false, profile: false, signal },
    ...(onProgress && { onProgress: (progress) => onProgress({ phase: 'build', ...progress }) }),
  });
  const room = Math.min(contextOf(dims, context), draft.dims.maxPositions);
  const opened = await openEngine(built, {
    ...{ threads, device, randomWeights, signal, onProgress },
    context: room,
  }).catch(async (error) => {
    throw (await import('./enough-memory.ts')).ofDraft(error, draft.dims.name);
  });
  try {
    engine.draftWith(opened.engine);
  } catch (error) {
    opened.engine.close();
    throw error;
  }
  return built;
}

/** The tensors that were read before the build, or that are in its directory now. */
async function tensorsOf({ files, modelDirectory, dims }: BuiltKernel): Promise<Tensors> {
  if (files?.tensors) return files.tensors;
  if (modelDirectory === null) throw (await import('./preflight.ts')).noWeights(dims.name);
  const { checkpointTensors, settleHead } = await import('./runtime/weights/checkpoint.ts');
  return settleHead(checkpointTensors(modelDirectory), dims.tiedHead).tensors;
}

/** The model over an engine that has its weights.
 *  @param options.warnings of the weights, told with the notes of the build
 *  @param options.weights as openEngine tells it: by it a conversation is restored only with the weights that it was saved with
 *  @param options.parallel places for replies: sequences of the engine, which was opened for as many
 *  @param options.queue as of LoadOptions */
export async function openModel(
  built: BuiltKernel,
  engine: Engine,
  {
    warnings = [],
    weights,
    parallel = 1,
    queue,
    embeddings = false,
  }: Partial<Omit<OpenEngine, 'engine'>> & {
    readonly parallel?: number | undefined;
    readonly queue?: number | undefined;
    readonly embeddings?: boolean | undefined;
  } = {},
): Promise<LanguageModel> {
  const [{ LanguageModel }, { greedy }, { chatTemplate }, { readPooling }, { now }] = await Promise.all([
    import('./runtime/model.ts'),
    import('./runtime/generation-config.ts'),
    import('./runtime/chat/chat-template.ts'),
    import('./runtime/embedding.ts'),
    import('./errors.ts'),
  ]);
  const { manifest, modelDirectory, files } = built;
  const tokenizer = files?.tokenizer ?? null;
  const hasTemplate = tokenizer !== null && modelDirectory !== null;
  const place = () => engine.open();
  return new LanguageModel({
    engine,
    ...(parallel > 1 && { sequences: Array.from({ length: parallel }, place) }),
    ...{ queue, manifest },
    defaults: files?.defaults ?? greedy,
    tokenizer,
    // Its file may be gone later.
    template: hasTemplate ? now(() => files?.template ?? chatTemplate(modelDirectory)) : null,
    ...(weights && { weights }),
    notes: [...(built.notes ?? []), ...warnings],
    ...(embeddings && { pooling: readPooling(modelDirectory) }),
  });
}
