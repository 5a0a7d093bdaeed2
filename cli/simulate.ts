// gen simulate: the interleavings of a plan's blocks and warps, run on a model scaled down. Needs no GPU.
import { OnelaunchError } from '../errors.ts';
import type { FoundFault } from '../lab/simulate.ts';
import { exitCode } from './exit-code.ts';
import { helpEnd, kernelCommand, kernelFlags, needModel, needNoOthers, type Program } from './flags.ts';
import { kernelOptions } from './load-kernel.ts';
import { type Start, table } from './ui.ts';
import { whole, wholes } from './values.ts';

/** Faults that are printed: more of them say no more. */
const mostPrinted = 10;

export function addSimulate(program: Program, start: Start): void {
  kernelCommand(program, 'simulate')
    .argument('[model]', 'the same as --model')
    .description('look for races of a plan, without a GPU: run a model scaled down in many interleavings')
    .optionsGroup('Simulate:')
    .option('--seeds <n>', 'interleavings of each tiny run', whole(1, 1_000_000), 5)
    .option('--seed <n>', 'the first seed: to repeat a run', whole(0, 2 ** 31 - 1), 1)
    .option('--pass-tokens <list>', 'only passes of so many tokens (default: one and a few)', wholes(1, 16))
    .option(
      '--at <list>',
      'only passes that begin at these positions (default: the first and later ones)',
      wholes(0, 64),
    )
    .option('--list-syncs', 'list the syncs of the schedule, and run nothing')
    .option('--drop <sync>', 'leave out a sync, by its number or its name in the list: it is needed')
    .addHelpText(
      'after',
      helpEnd(
        'gen simulate --model qwen3-0.6b --target h100 --plan my-plan.ts',
        'gen simulate --model qwen3-0.6b --target h100 --plan cooperative --drop "grid after attn_out"',
        'gen simulate --model qwen3-0.6b --target h100 --prompt-plan prefill',
      ),
    )
    .action((word, options, command) =>
      start(options, async (ui) => {
        const model = needModel(options, 'simulate', word);
        if (options.listSyncs) needNoOthers(command, '--list-syncs', ['--list-syncs', ...kernelFlags]);
        const { preflight } = await import('../preflight.ts');
        const lab = await import('../lab/simulate.ts');
        const { promptPlan } = options;
        if (options.plan !== undefined && promptPlan !== undefined) {
          throw new OnelaunchError('usage', '--plan and --prompt-plan are both given, and one is simulated', {
            hint: 'leave one of them out',
          });
        }
        const checked = await preflight(kernelOptions(model, options, ui), {});
        const { dims, target, planReason } = checked;
        const plan = promptPlan === undefined ? checked.plan : checked.promptPlan!;
        if (planReason && !promptPlan) ui.note(`plan ${plan.name}: ${planReason}`);
        const whole = lab.tinySchedule(dims, plan, target);
        if (options.listSyncs) {
          const syncs = whole.schedule.syncs.map((sync, index) => ({
            index,
            name: lab.syncName(sync),
            reason: sync.reason,
          }));
          if (ui.json) ui.result(syncs);
          else
            ui.data(
              table(
                ['', 'sync', 'because'],
                syncs.map((one) => [one.index, one.name, one.reason]),
              ),
            );
          return exitCode.ok;
        }
        const { drop, seed: first, seeds, passTokens, at } = options;
        const tiny = drop === undefined ? whole : lab.withoutSync(whole, drop);
        const runs = lab.runsFor(tiny, { first, seeds, tokens: passTokens, positions: at });
        const progress = ui.progress('simulating');
        const started = performance.now();
        const { faults } = await lab
          .simulateAll(tiny, runs, (done, run) => {
            ui.io.signal.throwIfAborted();
            progress.update(done / runs.length, `${done} of ${runs.length} interleavings, seed ${run.seed}`);
          })
          .finally(() => progress.end());
        ui.io.signal.throwIfAborted();
        const { name } = plan;
        if (ui.json) {
          ui.result({ model: dims.name, target: target.name, plan: name, runs: runs.length, faults });
        } else if (faults.length === 0) {
          ui.data(`no fault in ${runs.length} interleavings`);
        } else {
          for (const fault of faults.slice(0, mostPrinted)) ui.data(faultText(fault, runs.length));
          const more = faults.length - mostPrinted;
          if (more > 0) ui.data(`and ${more} more`);
        }
        ui.note(`${((performance.now() - started) / runs.length).toFixed(0)} ms an interleaving`);
        return faults.length > 0 ? exitCode.failed : exitCode.ok;
      }),
    );
}

function faultText({ kind, text, run, runs }: FoundFault, all: number): string {
  const { seed, tokens, position, rows, blocks, warps } = run;
  const machine = rows ? '' : ` --pass-tokens ${tokens} --at ${position}`;
  const again = `--seeds 1 --seed ${seed}${machine}`;
  return `${kind}: ${text}\n  in ${runs} of ${all}; first on ${blocks} blocks of ${warps} warps, again with ${again}`;
}
