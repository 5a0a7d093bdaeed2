// gen build: sources and library of one kernel.
import { relative } from 'node:path';
import { helpEnd, kernelCommand, needModel, type Program } from './flags.ts';
import { buildWithProgress, kernelOptions } from './load-kernel.ts';
import type { Start } from './ui.ts';

export function addBuild(program: Program, start: Start): void {
  kernelCommand(program, 'build', { isDefault: true })
    .description('generate and compile the kernel of a model (what gen does without a command)')
    .option('--force', 'compile again what was compiled before')
    .option(
      '--ship',
      'for a CPU: compile for every instruction set, so that the library is fast on other machines too (default: only for this one)',
    )
    .addHelpText(
      'after',
      helpEnd(
        'gen --model qwen3-0.6b --target h100',
        'gen build --model path/to/Qwen3-0.6B --plan unfused',
        'gen build --model qwen3-tiny --target cpu --ship',
      ),
    )
    .action((options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'build');
        const kernel = kernelOptions(model, options, ui);
        const built = await buildWithProgress(ui, {
          ...kernel,
          force: options.force,
          ship: options.ship,
        });
        const { directory, library, manifest, cached, millis } = built;
        if (ui.json) {
          const { name, hash } = built.kernel;
          ui.result({
            name,
            hash,
            directory,
            library,
            cached,
            millis: Math.round(millis),
            build: manifest.build,
          });
        } else {
          const near = relative(process.cwd(), directory);
          ui.data(near.startsWith('..') ? directory : near);
        }
        return 0;
      }),
    );
}
