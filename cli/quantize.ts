// gen quantize: a model as a checkpoint of int8, int4 or fp8, which other programs load, too.
import { megabytes } from '../codegen/schedule/bytes-text.ts';
import { OnelaunchError } from '../errors.ts';
import { writtenFormats } from '../quantised/layout.ts';
import { helpEnd, needModel, outputCommand, type Program } from './flags.ts';
import { type Start, seconds } from './ui.ts';
import { oneOf, whole } from './values.ts';

/** 20 for each column of the widest matrix of the bundled model. */
const calibrationTokens = 16_384;

export function addQuantize(program: Program, start: Start): void {
  outputCommand(program, 'quantize')
    .description('write a model with its matrices in int8, int4 or fp8, as compressed-tensors stores them')
    .argument('[model]', 'the same as --model')
    .option(
      '-m, --model <name|dir>',
      'a known name (see gen models), ORG/NAME in the Hub cache, or the directory of a model',
    )
    .option(
      '--weights <format>',
      'int8 or int4, whose codes are those of --weights elsewhere, in groups of 32; or fp8 with a scale for each row',
      oneOf(writtenFormats),
    )
    .option(
      '--calibrate <file>',
      'plain text of the kind that the model will see, or JSON as text.json of qwen3-tiny: its activations choose the codes (GPTQ)',
    )
    .option(
      '--tokens <n>',
      `tokens of the text that calibrate (default: ${calibrationTokens})`,
      whole(1, 1_000_000),
    )
    .option('--out <folder>', 'a folder that is made, or is empty')
    .option(
      '--threads <n>',
      'threads that calibrate; the file is the same for any number (default: as many as processors)',
      whole(1, 1024),
    )
    .addHelpText(
      'after',
      `
The matrices of the layers are rounded; embedding, head and all else stay as they are. Without --calibrate no text is needed: each number is rounded to nearest.
With it every layer is computed: a minute for qwen3-tiny, for a 0.6 B model 12 on 16 cores with --tokens 4096 (by the first four layers); of sequences of 256
tokens a thread has some, so that more threads than these help less.
Give a text that is not the one by which the model is judged.
${helpEnd('gen quantize qwen3-tiny --weights int4 --out models/qwen3-tiny-int4')}`,
    )
    .action((word, options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'quantize', word);
        const format = needed('weights', options.weights, 'int4');
        const { calibrate, tokens, threads } = options;
        const ofCalibration =
          tokens !== undefined
            ? '--tokens is of the text of'
            : threads !== undefined
              ? '--threads is of'
              : null;
        if (ofCalibration !== null && calibrate === undefined) {
          throw new OnelaunchError('usage', `${ofCalibration} --calibrate, which is not given`, {
            hint: 'give one: --calibrate FILE',
          });
        }
        const out = needed('out', options.out, `models/${model.split('/').at(-1)}-${format}`);
        const [{ resolveModel }, { quantiseCheckpoint }, { isGgufFile }] = await Promise.all([
          import('../configs/resolve.ts'),
          import('../lab/quantise.ts'),
          import('../gguf/header.ts'),
        ]);
        const { dims, directory } = resolveModel(model);
        if (directory === null) {
          throw new OnelaunchError('usage', `there are no weights of ${dims.name} here`, {
            hint: `fetch them: gen pull ${model}`,
          });
        }
        if (isGgufFile(directory)) {
          throw new OnelaunchError('usage', `${directory} is a GGUF file, whose matrices are what they are`, {
            hint: 'give the folder of the unquantised model',
          });
        }
        const progress = ui.progress(`writing ${format}`);
        const started = performance.now();
        try {
          const { signal } = ui.io;
          const written = await quantiseCheckpoint(directory, {
            ...{ format, out, signal, threads },
            ...(calibrate === undefined
              ? {}
              : { calibrate: { path: calibrate, tokens: tokens ?? calibrationTokens } }),
            onBytes: (done, total) =>
              progress.update(done / total, `${inMegabytes(done)} of ${inMegabytes(total)}`),
          });
          progress.end();
          const { before, after } = written.bytes;
          ui.note(
            `${written.matrices} matrices of layers as ${format}: ${inMegabytes(before)} became ${inMegabytes(after)} in ${seconds(performance.now() - started)}`,
          );
          if (ui.json) ui.result({ format, ...written });
          else ui.data(written.directory);
          return 0;
        } catch (error) {
          progress.end();
          throw error;
        }
      }),
    );
}

const inMegabytes = (bytes: number) => `${megabytes(bytes)} MB`;

function needed<T extends string>(flag: string, value: T | undefined, example: string): T {
  if (value !== undefined && value !== '') return value;
  throw new OnelaunchError('usage', `no --${flag} given`, { hint: `for example: --${flag} ${example}` });
}
