// gen models: what is known by name.
import { helpEnd, outputCommand, type Program } from './flags.ts';
import { type Start, table } from './ui.ts';

export function addModels(program: Program, start: Start): void {
  outputCommand(program, 'models')
    .description('list the models known by name')
    .addHelpText('after', helpEnd('gen models --json'))
    .action((options) =>
      start(options, async (ui) => {
        const { modelNames, resolveModel } = await import('../configs/resolve.ts');
        const { packWeights } = await import('../codegen/model/packing.ts');
        const models = modelNames().map((name) => {
          const { dims, directory } = resolveModel(name);
          return { ...dims, weightBytes: packWeights(dims).bytes, bundled: directory !== null };
        });
        if (ui.json) {
          ui.result(models);
          return 0;
        }
        ui.data(
          table(
            [
              'model',
              'layers',
              'hidden',
              'ffn',
              'heads',
              'kv',
              'dim',
              'vocab',
              'positions',
              'dtype',
              'MB',
              'files',
            ],
            models.map((m) => [
              ...[m.name, m.layers, m.hidden, m.ffn, m.qHeads, m.kvHeads, m.headDim, m.vocab, m.maxPositions],
              ...[m.dtype, Math.round(m.weightBytes / 1e6), m.bundled ? 'bundled' : '-'],
            ]),
          ),
        );
        ui.note('\nModels without files: give the directory of a checkpoint, --model DIR.');
        return 0;
      }),
    );
}
