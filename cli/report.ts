// gen report: journals and bench files as one page.
import { join } from 'node:path';
import { packageRoot } from '../codegen/build/package-root.ts';
import { OnelaunchError } from '../errors.ts';
import { exitCode } from './exit-code.ts';
import { helpEnd, outputCommand, type Program } from './flags.ts';
import { needApart, needWritable } from './output-file.ts';
import { counted, type Start } from './ui.ts';

export function addReport(program: Program, start: Start): void {
  outputCommand(program, 'report')
    .argument('[files...]', 'journals, figures, and folders of them (default: bench/reports)')
    .description('make one page of journals and figures: variants, speed, predictions, quality, conditions')
    .optionsGroup('Report:')
    .option('--out <file>', 'where to write the page', 'report.html')
    .addHelpText('after', helpEnd('gen report', 'gen report bench/reports explore.jsonl --out report.html'))
    .action((files, options) =>
      start(options, async (ui) => {
        const { out } = options;
        needWritable('out', out, 'report.html');
        const { readInput } = await import('../lab/report/read.ts');
        const { judged, reportPage } = await import('../lab/report/page.ts');
        const { wanted, within } = await import('../lab/report/predict.ts');
        const { orderText } = await import('../lab/report/sections/prediction.ts');
        const { writeText } = await import('../lab/write-text.ts');
        const input = readInput(files.length > 0 ? files : [join(packageRoot(), 'bench', 'reports')]);
        const { experiments, kernels, peers } = input;
        const read = [...experiments, ...kernels, ...peers];
        needApart(
          ['--out', out],
          read.map(({ file }) => ['a file that is read', file]),
        );
        const counts = {
          kernels: input.kernels.length,
          experiments: input.experiments.length,
          peers: input.peers.length,
        };
        if (counts.kernels + counts.experiments + counts.peers === 0) {
          throw new OnelaunchError('usage', 'there is nothing to report yet', {
            hint: 'gen bench --report, gen explore and gen ablate measure something',
          });
        }
        const predictions = await judged(input, ui.io.signal);
        writeText(out, reportPage(input, predictions));
        const { predicted, orders } = predictions;
        if (ui.json) {
          ui.result({
            out,
            ...counts,
            leftOut: input.others,
            predicted: { share: wanted, within: within(predicted, wanted), all: predicted.length },
            orders,
          });
        } else ui.data(out);
        ui.note(
          `${counted(counts.kernels, 'kernel')}, ${counted(counts.experiments, 'experiment')}, ${counted(counts.peers, 'comparison')} with other systems`,
        );
        if (input.others.length > 0)
          ui.note(`left out, neither a journal nor figures: ${input.others.join(', ')}`);
        if (predicted.length > 0) {
          ui.note(
            `${within(predicted, wanted)} of ${predicted.length} predictions are within ${100 * wanted} % of what was measured`,
          );
        }
        for (const order of orders) ui.note(orderText(order));
        return exitCode.ok;
      }),
    );
}
