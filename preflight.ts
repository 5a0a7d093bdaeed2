// Before anything is compiled: all that keeps a model from running here, found at once, and what was read to find it.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Gpu } from './codegen/build/gpus.ts';
import type { FusionPlan } from './codegen/index.ts';
import type { ModelDims } from './codegen/model/dims.ts';
import type { CacheName, WeightName } from './codegen/model/formats.ts';
import type { Target } from './codegen/schedule/target.ts';
import { usualContext } from './codegen/settle-context.ts';
import { hubIds } from './configs/models.ts';
import { gather, OnelaunchError } from './errors.ts';
import type { FreeMemory } from './free-memory.ts';
import type { ChatTemplate } from './runtime/chat/chat-template.ts';
import type { GenerationDefaults } from './runtime/generation-config.ts';
import type { Tokenizer } from './runtime/tokenizer/tokenizer.ts';
import { listed, type Tensors } from './runtime/weights/safetensors.ts';

/** Which kernel. */
export interface AskedKernel {
  /** A known name such as qwen3-0.6b, ORG/NAME of the Hugging Face Hub if it is in its cache here, or the directory or GGUF file of a model. */
  readonly model: string;
  /** cpu, h100, ... @default the GPU found here where nvcc is too, else cpu */
  readonly target?: string | undefined;
  /** Name of a plan, path of a file that exports one, or a plan. @default the best one for the target */
  readonly plan?: string | FusionPlan | undefined;
  /** The same of a plan with tiles, for prompts. @default prefill on a GPU of sm_90a where no plan is named; else
   *  none: prompts go through passes of the other */
  readonly promptPlan?: string | FusionPlan | undefined;
  /** Format of the matrices: int8, int4, int4-asym, mixed (int4, but query, key and value int8) and fp8 are rounded to blocks while they are loaded; plain: numbers of the model's dtype.
   *  @default as the model has them: blocks of a GGUF file, or codes of a checkpoint that are such, where the plan has kernels for them; else plain */
  readonly weights?: WeightName | undefined;
  /** Format of the KV cache: int8, with a scale for each position and head, takes about half the memory (on a GPU by a plan for a stream); plain: numbers of the model's dtype.
   *  @default plain */
  readonly cache?: CacheName | undefined;
}

/** What a command needs beyond a kernel that can be compiled. */
export interface Needs {
  /** `random`: they can be asked for in the place of the model's. */
  readonly weights?: boolean | 'random' | undefined;
  /** `optional`: one that is there must be whole. */
  readonly tokenizer?: 'needed' | 'optional' | undefined;
  readonly template?: boolean | undefined;
  /** The head is to be the identity, so that logits are hidden states. */
  readonly embeddings?: boolean | undefined;
  /** The kernel is run here. */
  readonly run?:
    | {
        readonly device?: number | undefined;
        readonly context?: number | undefined;
        readonly sequences?: number | undefined;
        readonly threads?: number | undefined;
        /** Where no context is said, the engine has the usual one: memory for its KV cache is counted, too. */
        readonly usual?: boolean | undefined;
        /** In the place of this machine's. */
        readonly memory?: FreeMemory | undefined;
      }
    | undefined;
  /** What else must hold, told with the rest. @throws OnelaunchError */
  readonly also?: ((model: AskedModel) => unknown) | undefined;
}

/** A model, with the ops that the plan that was asked for computes in its own way. */
export interface AskedModel extends Pick<CheckedModel, 'dims' | 'directory'> {
  readonly functions: FusionPlan['functions'];
}

/** What was read of a model's files; null: not needed, or not there. */
export interface ModelFiles {
  readonly tensors: Tensors | null;
  readonly tokenizer: Tokenizer | null;
  readonly template: ChatTemplate | null;
  readonly defaults: GenerationDefaults | null;
}

export interface CheckedModel {
  /** As the weights are, where they say otherwise than config.json. */
  readonly dims: ModelDims;
  readonly directory: string | null;
  readonly target: Target;
  readonly plan: FusionPlan;
  /** Why this plan, where none was asked for. */
  readonly planReason: string | null;
  /** What takes in prompts beside it. */
  readonly promptPlan: FusionPlan | null;
  readonly files: ModelFiles;
  /** What the user should know, one line each. */
  readonly notes: readonly string[];
  /** Of the device that it is to run on, where it is run. */
  readonly memory: FreeMemory | null;
}

/** Checks a model, its files and this machine. Starts no compiler.
 *  @throws OnelaunchError, or Problems with all that is wrong; InsufficientMemoryError where nothing else is */
export async function preflight(options: AskedKernel, needs: Needs): Promise<CheckedModel> {
  const [names, defaults, formats, caches, contexts, machine, { findGpus }, { checkTimes }] =
    await Promise.all([
      import('./configs/resolve.ts'),
      import('./configs/default-plan.ts'),
      import('./codegen/settle-weights.ts'),
      import('./codegen/settle-cache.ts'),
      import('./codegen/settle-context.ts'),
      import('./codegen/build/can-run.ts'),
      import('./codegen/build/gpus.ts'),
      import('./runtime/engine/times.ts'),
    ]);
  // Asking for them starts a program: once.
  let found: ReturnType<typeof findGpus> | undefined;
  const gpus = () => (found ??= findGpus());
  const errors: OnelaunchError[] = [];
  const { attempt, attemptAsync } = collector(errors);
  const target = attempt(() => names.resolveTarget(options.target, gpus, needs.run?.device));
  // Which formats the file's matrices can keep hangs on them; what is wrong with them is said in its place.
  const planErrors: OnelaunchError[] = [];
  const { plan, promptPlan } = await findPlans(options, { names, target, errors: planErrors });
  const model = attempt(() => {
    const read = names.resolveModel(options.model);
    const settled = contexts.settleContext(read.dims, needs.run?.context);
    return { ...read, dims: caches.settleCache(settled, options.cache) };
  });
  if (needs.run && target) attempt(() => machine.checkDevice(target, needs.run?.device ?? 0, gpus));
  if (needs.run && target?.kind === 'cuda') attempt(() => checkTimes(process.env));
  const idle = target && attempt(() => machine.tellThreads(target, needs.run?.threads, options.target));
  if (needs.run && model) attempt(() => checkRoom(model.dims, needs));
  // What config.json says wrong does not hide what other files do.
  const directory = model ? model.directory : configured(options.model);
  const files = directory === null ? null : await readFiles(directory, needs);
  const template = (needs.template && files && attempt(files.template)) || null;
  if (model && directory === null && needs.weights)
    errors.push(noWeights(model.dims.name, { random: needs.weights === 'random' }));
  const weights = await readWeights(directory, model?.dims, needs, errors);
  const canRun = (dims: ModelDims) => !target || defaults.canRunFormats(dims, { plan, promptPlan, target });
  const dims = attempt(() => {
    if (!model) return undefined;
    const inFile = formats.withLevels(model.dims, levelsOf(weights.tensors));
    return formats.settleWeights({ ...inFile, tiedHead: weights.tiedHead }, options.weights, canRun);
  });
  errors.push(...planErrors);
  const functions = plan ? plan.functions : {};
  if (dims) await attemptAsync(async () => needs.also?.({ dims, directory, functions }));
  const texts =
    files && checkTexts(files, { vocab: dims?.vocab, template, isWhole: errors.length === 0 }, attempt);
  if (errors.length > 0 || !model || !dims || !target) throw gather(errors);
  const asked = promptPlan ?? null;
  const plans = plan
    ? { plan, planReason: null, promptPlan: asked }
    : defaults.choosePlans(dims, target, asked);
  const memory = needs.run ? (needs.run.memory ?? (await memoryOf(target, gpus, needs.run.device))) : null;
  if (needs.run && memory) {
    const { checkMemory, opened } = await import('./enough-memory.ts');
    checkMemory([opened({ dims, plan: plans.plan, target }, roomOf(dims, needs.run))], memory);
  }
  return {
    ...{ dims, directory, target, ...plans },
    files: {
      ...{ template, tensors: weights.tensors },
      ...{ tokenizer: texts?.tokenizer ?? null, defaults: texts?.defaults ?? null },
    },
    notes: [...(idle ?? []), ...model.notes, ...weights.notes, ...(texts?.notes ?? [])],
    memory,
  };
}

async function memoryOf({ kind }: Target, gpus: () => readonly Gpu[], device = 0): Promise<FreeMemory> {
  const { freeMemory, freeOnGpu } = await import('./free-memory.ts');
  return kind === 'cpu' ? freeMemory() : freeOnGpu(gpus(), device);
}

/** What an engine is opened for, as far as it is known before the build. */
export const roomOf = (dims: ModelDims, run: NonNullable<Needs['run']>) => {
  const { context = run.usual ? usualContext(dims) : 1, sequences = 1, threads = 0 } = run;
  return { context, sequences, threads };
};

/** The plans that are asked for, and whether they go together. */
async function findPlans(
  options: Pick<AskedKernel, 'plan' | 'promptPlan'>,
  input: {
    readonly names: typeof import('./configs/resolve.ts');
    readonly target: Target | undefined;
    readonly errors: OnelaunchError[];
  },
): Promise<{ readonly plan: FusionPlan | undefined; readonly promptPlan: FusionPlan | undefined }> {
  const { attempt, attemptAsync } = collector(input.errors);
  const found = async (
    asked: string | FusionPlan | undefined,
    resolve: (name: string) => Promise<FusionPlan>,
  ) => {
    if (asked === undefined) return undefined;
    const { parsePlan } = await import('./codegen/plan/parse-plan.ts');
    return attemptAsync(async () => (typeof asked === 'string' ? await resolve(asked) : parsePlan(asked)));
  };
  const plan = await found(options.plan, input.names.resolvePlan);
  const promptPlan = await found(options.promptPlan, input.names.resolvePromptPlan);
  const { checkTogether } = await import('./codegen/schemes/together.ts');
  attempt(() => checkTogether(plan, promptPlan, input.target));
  return { plan, promptPlan };
}

type Attempt = <T>(run: () => T) => T | undefined;

/** Runs what may refuse, and keeps the refusals. */
function collector(errors: OnelaunchError[]) {
  const keep = (error: unknown): undefined => {
    if (!(error instanceof OnelaunchError)) throw error;
    errors.push(error);
  };
  const attempt: Attempt = (run) => {
    try {
      return run();
    } catch (error) {
      return keep(error);
    }
  };
  const attemptAsync = async <T>(run: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await run();
    } catch (error) {
      return keep(error);
    }
  };
  return { attempt, attemptAsync };
}

function configured(model: string): string | null {
  return existsSync(join(model, 'config.json')) ? resolve(model) : null;
}

/** Refuses a context that the model was not made for. @throws OnelaunchError of kind usage */
export function checkContext({ maxPositions, name }: ModelDims, context: number): void {
  if (context <= maxPositions) return;
  throw new OnelaunchError('usage', `a context of ${context} is more than ${name} was made for`, {
    hint: `At most ${maxPositions} positions.`,
  });
}

function checkRoom(dims: ModelDims, { run, tokenizer }: Needs): void {
  if (run?.context === undefined) return;
  checkContext(dims, run.context);
  if (run.context >= 2 || tokenizer !== 'needed') return;
  throw new OnelaunchError('usage', `a context of ${run.context} has no room for a prompt and a reply`, {
    hint: 'A prompt has at most one token less than the context: give 2 or more.',
  });
}

/** The header of the weights, whether the head is the embedding, and whether every tensor is there in a form that is read. */
async function readWeights(
  directory: string | null,
  dims: ModelDims | undefined,
  needs: Needs,
  errors: OnelaunchError[],
): Promise<{ tensors: Tensors | null; tiedHead: boolean; notes: readonly string[] }> {
  const none = { tensors: null, tiedHead: dims?.tiedHead ?? false, notes: [] };
  if (directory === null) return none;
  const { checkpointTensors, settleHead } = await import('./runtime/weights/checkpoint.ts');
  // A kernel for weights that are to come is made for what config.json says of them.
  const collected = collector(needs.weights ? errors : []);
  const { attempt } = collected;
  const read = attempt(() => checkpointTensors(directory));
  if (read === undefined || dims === undefined) return none;
  // Comparing head and embedding may read gigabytes: not where something is wrong already.
  const asIs = errors.length > 0 ? { ...none, tensors: read } : settleHead(read, dims.tiedHead);
  const settled = needs.embeddings ? ((await withIdentity(asIs, dims, collected)) ?? asIs) : asIs;
  if (needs.embeddings) {
    const { readPooling } = await import('./runtime/embedding.ts');
    attempt(() => readPooling(directory));
  }
  if (needs.weights) errors.push(...(await unfitTensors(dims, settled)));
  return settled;
}

/** All that keeps the tensors of a checkpoint from being the weights of a model whose head was settled by them. */
export async function unfitTensors(
  dims: ModelDims,
  { tensors, tiedHead }: { readonly tensors: Tensors; readonly tiedHead: boolean },
): Promise<OnelaunchError[]> {
  const [{ findTensorProblems }, { packWeights, slotsOf }] = await Promise.all([
    import('./runtime/weights/load-plan.ts'),
    import('./codegen/model/packing.ts'),
  ]);
  const actual = { ...dims, tiedHead };
  const problems = findTensorProblems(slotsOf(actual, packWeights(actual)), tensors);
  return problems.map(({ text, hint }) => new OnelaunchError('usage', text, { hint }));
}

/** The blocks that have the codes of each matrix, null: of one of the layers that has no codes beside others that do. Files name the matrices that
 *  were left as they were in several ways (ignore, targets, ...): what is stored tells for all. */
function levelsOf(tensors: Tensors | null) {
  const all = [...(tensors ?? [])];
  if (!all.some(([, { packed }]) => packed)) return [];
  return all.flatMap(([name, { packed }]) =>
    packed ? [packed.levels] : /\.layers\..*_proj\.weight$/.test(name) ? [null] : [],
  );
}

/** With a head that hands on hidden states; it is written when the weights are read, and once before to see that it can be. */
async function withIdentity(
  settled: { readonly tensors: Tensors },
  dims: ModelDims,
  { attempt, attemptAsync }: ReturnType<typeof collector>,
) {
  const { duringIdentityHead, withIdentityHead } = await import('./runtime/weights/identity-head.ts');
  await attemptAsync(() => duringIdentityHead(dims, async () => {}));
  const tensors = attempt(() => withIdentityHead(settled.tensors, dims));
  return tensors && { tensors, tiedHead: false, notes: [] };
}

/** The readers of a model's texts; null where no text is needed. */
async function readFiles(directory: string, { tokenizer }: Needs) {
  if (tokenizer === undefined) return null;
  const [tokenizers, { chatTemplate }, { readGenerationConfig }] = await Promise.all([
    import('./runtime/tokenizer/tokenizer.ts'),
    import('./runtime/chat/chat-template.ts'),
    import('./runtime/generation-config.ts'),
  ]);
  const path = tokenizers.tokenizerFile(directory);
  const isWanted = tokenizer === 'needed' || path !== null;
  return {
    path: path ?? directory,
    template: () => chatTemplate(directory),
    tokenizer: () => (isWanted ? tokenizers.loadTokenizer(directory) : null),
    addedTokens: () => (isWanted ? tokenizers.readAddedTokens(directory) : null),
    defaults: (vocabulary: Parameters<typeof readGenerationConfig>[1]) =>
      readGenerationConfig(directory, vocabulary),
  };
}

interface TextCheck {
  readonly vocab: number | undefined;
  readonly template: ChatTemplate | null;
  /** False: something is wrong already, and the tokenizer is not made, which takes longest of all. */
  readonly isWhole: boolean;
}

/** Tokenizer and generation_config, and whether they fit the rows of the model. */
function checkTexts(
  files: NonNullable<Awaited<ReturnType<typeof readFiles>>>,
  { vocab = Number.POSITIVE_INFINITY, template, isWhole }: TextCheck,
  attempt: Attempt,
) {
  const tokenizer = (isWhole && attempt(files.tokenizer)) || null;
  const tokens = tokenizer ?? attempt(files.addedTokens) ?? null;
  const defaults = attempt(() => files.defaults({ vocab, tokenizer: tokens })) ?? null;
  const notes = [...(defaults?.notes ?? [])];
  const beyond = [...(tokens?.added ?? [])].filter(([id]) => id >= vocab);
  if (beyond.length > 0) {
    const names = listed(beyond.map(([id, token]) => `${token} (${id})`));
    const text = `${files.path} has ${names}, and the embedding has ${vocab} rows`;
    const written = template && beyond.some(([, token]) => rendered(template).includes(token));
    if (written) attempt(() => refuseToken(text));
    else notes.push(`${text}: a prompt with such a token is refused`);
  }
  return { tokenizer, defaults, notes };
}

function refuseToken(text: string): never {
  throw new OnelaunchError('usage', `${text}; the chat template writes such a token`, {
    hint: 'In Python, model.resize_token_embeddings(len(tokenizer)) before model.save_pretrained(DIR), or use the template of the base model.',
  });
}

/** A conversation as the template writes it; nothing where it refuses this one. */
function rendered(template: ChatTemplate): string {
  try {
    return template([{ role: 'user', content: '' }]);
  } catch {
    return '';
  }
}

/** A model that is known by name only. */
export function noWeights(model: string, { random = false } = {}): OnelaunchError {
  const hubId = hubIds.get(model);
  const fetch = hubId ? `gen pull ${hubId} fetches them; or give` : 'Give';
  const measure = random ? ', or measure with --random-weights' : '';
  return new OnelaunchError('usage', `there are no weights of ${model} here`, {
    hint: `${fetch} the directory of its checkpoint as the model${measure}.`,
  });
}
