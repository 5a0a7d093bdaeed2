// Building, opening and loading, told on stderr.
import { resolve } from 'node:path';
import { OnelaunchError } from '../errors.ts';
import type {
  BuildKernelOptions,
  BuiltKernel,
  DraftSettings,
  KernelOptions,
  LoadOptions,
  LoadProgress,
  OpenEngine,
} from '../load.ts';
import type { DraftNeeds } from '../load-draft.ts';
import type { CheckedModel, Needs } from '../preflight.ts';
import type { Engine } from '../runtime/engine/engine.ts';
import { seconds, type Ui } from './ui.ts';

/** Which kernel, as commander parsed it. */
export interface KernelFlags {
  readonly target?: string | undefined;
  readonly plan?: string | undefined;
  readonly promptPlan?: string | undefined;
  readonly weights?: KernelOptions['weights'];
  readonly cache?: KernelOptions['cache'];
}

/** The kernel flags of a command line as library options. */
export function kernelOptions(model: string, options: KernelFlags, ui: Ui): KernelOptions {
  const { target, plan, promptPlan, weights, cache } = options;
  return { model, target, plan, promptPlan, weights, cache, signal: ui.io.signal };
}

/** Builds, with its steps and their times on stderr; the last line says what came of it. */
export async function buildWithProgress(
  ui: Ui,
  options: BuildKernelOptions,
  needs: Needs = {},
): Promise<BuiltKernel> {
  const { buildKernel } = await import('../load.ts');
  const progress = showBuild(ui);
  const built = await buildKernel({ ...options, onProgress: progress.on }, needs).finally(progress.end);
  // A library for profiles is built beside the one that is not, which has said this.
  if (!options.profile) tellChoices(ui, options.model, built);
  const how = built.cached ? 'built before' : `compiled in ${seconds(built.manifest.build.millis)}`;
  ui.note(`${built.kernel.name}${options.profile ? ', for profiles' : ''}: ${how}`);
  return built;
}

/** What was chosen, and why. */
function tellChoices(ui: Ui, model: string, built: BuiltKernel): void {
  for (const note of built.notes ?? []) ui.warn(note);
  const from = whereFrom(model, built.modelDirectory);
  if (from !== null) ui.note(from);
  if (built.planReason) ui.note(`plan ${built.kernel.schedule.plan.name}: ${built.planReason}`);
  const { promptPlan, promptTokens } = built.manifest;
  if (promptPlan !== null)
    ui.note(`prompts by ${promptPlan}, up to ${promptTokens.toLocaleString('en')} tokens a launch`);
}

/** The steps that run and for how long: one line that is rewritten on a terminal, elsewhere a line for each that ended. */
function showBuild(ui: Ui) {
  const progress = ui.progress('compiling');
  const running = new Set<string>();
  let begun = 0;
  const show = () => {
    if (running.size === 0) return;
    const elapsed = Math.floor((performance.now() - begun) / 1000);
    progress.update(null, `${elapsed > 0 ? `${elapsed} s: ` : ''}${[...running].join(', ')}`);
  };
  let timer: NodeJS.Timeout | undefined;
  return {
    on: (step: LoadProgress) => {
      if (step.phase !== 'build') return;
      switch (step.event) {
        case 'note':
          progress.end();
          return ui.note(step.line);
        case 'begun':
          begun ||= performance.now();
          timer ??= setInterval(show, 250);
          running.add(step.line);
          return show();
        case 'ended':
          running.delete(step.line);
          progress.log(`  ${step.line}: ${seconds(step.millis)}`);
          return show();
        default:
          step satisfies never;
      }
    },
    end: () => {
      clearInterval(timer);
      progress.end();
    },
  };
}

/** The draft model of a command line, checked and then loaded. */
export interface DraftFlags {
  readonly draft?: string | undefined;
  readonly draftWeights?: KernelOptions['weights'];
}

/** What a command does for its draft model: `check` before anything is compiled, `open` behind the engine of the model, which closes it.
 *  Both do nothing where none was asked for. */
export async function draftOf(
  ui: Ui,
  { draft, draftWeights }: DraftFlags,
  settings: DraftSettings & DraftNeeds,
) {
  if (draft === undefined) {
    if (draftWeights !== undefined) {
      throw new OnelaunchError('usage', '--draft-weights is given without --draft', {
        hint: 'for example: --draft qwen3-0.6b --draft-weights int8',
      });
    }
    return { check: async () => {}, open: async () => {} };
  }
  const [{ checkDraft }, { openDraft }] = await Promise.all([
    import('../load-draft.ts'),
    import('../load.ts'),
  ]);
  let checked: CheckedModel | undefined;
  return {
    check: async (model: CheckedModel) => {
      checked = await checkDraft({ model: draft, weights: draftWeights }, model, settings);
    },
    open: async (built: BuiltKernel, engine: Engine) => {
      const progress = showBuild(ui);
      const opened = await openDraft(checked!, built, engine, {
        ...settings,
        ...{ signal: ui.io.signal, onProgress: progress.on },
      }).finally(progress.end);
      ui.note(`${opened.kernel.name} drafts, ${megabytes(opened.manifest.weightBytes)} of weights`);
    },
  };
}

/** Opens a built library and loads its weights, with a bar on stderr. */
export async function openWithProgress(
  ui: Ui,
  built: BuiltKernel,
  options: Omit<LoadOptions, keyof KernelOptions> & { readonly sequences?: number | undefined },
): Promise<OpenEngine> {
  const { openEngine } = await import('../load.ts');
  const started = performance.now();
  const progress = ui.progress('loading weights');
  try {
    const open = await openEngine(built, {
      ...options,
      signal: ui.io.signal,
      onProgress: (step) => {
        if (step.phase === 'load') progress.update(step.done / step.total, megabytes(step.total));
      },
    });
    const what = options.randomWeights ? 'random weights' : 'weights';
    const millis = performance.now() - started;
    progress.end(
      `${megabytes(built.manifest.weightBytes)} of ${what} in ${seconds(millis)}, on ${open.engine.device}`,
    );
    for (const warning of open.warnings) ui.warn(warning);
    return open;
  } catch (error) {
    progress.end();
    throw error;
  }
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`;

/** What a name stands for, where that is a folder of the Hub cache; null where the user gave the folder, or it is bundled. */
function whereFrom(model: string, directory: string | null): string | null {
  const isOfHub = directory !== null && /[/\\]snapshots[/\\][^/\\]+$/.test(directory);
  return isOfHub && resolve(model) !== directory ? `${model}: ${directory}` : null;
}
