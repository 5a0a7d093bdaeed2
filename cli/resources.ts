// gen resources: what a kernel takes of its machine, read from the compiled object.
import type { Count } from '../lab/instructions.ts';
import type { KernelResources } from '../lab/kernel-resources.ts';
import { exitCode } from './exit-code.ts';
import { helpEnd, kernelCommand, needModel, type Program } from './flags.ts';
import { buildWithProgress, kernelOptions } from './load-kernel.ts';
import { type Start, table } from './ui.ts';

export function addResources(program: Program, start: Start): void {
  kernelCommand(program, 'resources')
    .argument('[model]', 'the same as --model')
    .description(
      'registers, spills, shared memory, loads by width and instructions by class, from the compiled kernel',
    )
    .addHelpText(
      'after',
      helpEnd(
        'gen resources --model qwen3-0.6b --target h100',
        'gen resources --model qwen3-tiny --target cpu',
      ),
    )
    .action((word, options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'resources', word);
        const [{ resourcesOf }, { needDisassembler }, { resolveTarget }] = await Promise.all([
          import('../lab/kernel-resources.ts'),
          import('../lab/disassemble.ts'),
          import('../configs/resolve.ts'),
        ]);
        // A tool that is missing is said before a minute of compiling.
        needDisassembler(resolveTarget(options.target).kind === 'cuda' ? 'cuobjdump' : 'objdump');
        const { directory, manifest, kernel } = await buildWithProgress(
          ui,
          kernelOptions(model, options, ui),
        );
        const resources = resourcesOf(directory, manifest);
        if (ui.json) ui.result({ kernel: kernel.name, hash: kernel.hash, resources });
        else ui.data(resourcesText(resources));
        return exitCode.ok;
      }),
    );
}

function resourcesText(resources: readonly KernelResources[]): string {
  const summary = table(
    ['code', 'instructions', 'registers', 'spilled bytes', 'static shared bytes'],
    resources.map((one) => [one.name, one.instructions, one.registers, one.spillBytes, one.sharedBytes]),
  );
  const parts = resources.flatMap((one) => [
    '',
    one.name,
    `  loads   ${counts(one.loads)}`,
    `  stores  ${counts(one.stores)}`,
    `  all     ${one.classes.map(({ name, count }) => `${name} ${count}`).join(', ')}`,
  ]);
  return [summary, ...parts, '', 'Counted where they stand in the code: a loop counts once.'].join('\n');
}

/** Such as `LDG 128: 24`: the bits, where they are known. */
const counts = (list: readonly Count[]): string =>
  list.map(({ name, bits, count }) => `${bits === null ? name : `${name} ${bits}`}: ${count}`).join(', ') ||
  'none';
