// Building, opening and loading, told on stderr.
import type { BuiltKernel, KernelOptions, LoadOptions, OpenEngine } from '../load.ts';
import { seconds, type Ui } from './ui.ts';

/** The kernel flags of a command line as library options. */
export function kernelOptions(
  model: string,
  options: { readonly target?: string | undefined; readonly plan?: string | undefined },
  ui: Ui,
): KernelOptions {
  return { model, target: options.target, plan: options.plan, signal: ui.io.signal };
}

/** Builds, with a line for each step on stderr; one line says where the library is. */
export async function buildWithProgress(
  ui: Ui,
  options: KernelOptions & { readonly force?: boolean | undefined },
  needs: { readonly needsWeights?: boolean } = {},
): Promise<BuiltKernel> {
  const { buildKernel } = await import('../load.ts');
  const progress = ui.progress('compiling');
  try {
    const built = await buildKernel(
      {
        ...options,
        onProgress: (step) => {
          if (step.phase === 'build') progress.update(null, step.line);
        },
      },
      needs,
    );
    if (built.planReason) ui.note(`plan ${built.kernel.schedule.plan.name}: ${built.planReason}`);
    progress.end(
      built.cached
        ? `${built.kernel.name}: built before`
        : `${built.kernel.name}: compiled in ${seconds(built.manifest.build.millis)}`,
    );
    return built;
  } catch (error) {
    progress.end();
    throw error;
  }
}

/** Opens a built library and loads its weights, with a bar on stderr. */
export async function openWithProgress(
  ui: Ui,
  built: BuiltKernel,
  options: Omit<LoadOptions, keyof KernelOptions>,
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
