// gen complete: goes on with a text.
import { OnelaunchError } from '../errors.ts';
import { mostTopLogprobs } from '../runtime/engine/limits.ts';
import { helpEnd, type Program, promptCommand } from './flags.ts';
import { readPrompt, readWords } from './prompt.ts';
import { loadWithProgress, printReply, replyCode, replyOptions } from './reply.ts';
import type { Start } from './ui.ts';
import { whole } from './values.ts';

export function addComplete(program: Program, start: Start): void {
  promptCommand(program, 'complete', 'the text')
    .description('continue a text')
    .optionsGroup('Reply:')
    .option(
      '--topLogprobs <n>',
      `with --json: log probabilities of each token, and of so many others, 0 to ${mostTopLogprobs}`,
      whole(0, mostTopLogprobs),
    )
    .addHelpText(
      'after',
      helpEnd(
        'gen complete qwen3-tiny "A kernel is" --maxTokens 40',
        'gen complete qwen3-tiny < beginning.txt',
      ),
    )
    .action((...[first, second, options]) =>
      start(options, async (ui) => {
        const { topLogprobs, json } = options;
        if (topLogprobs !== undefined && !json) {
          throw new OnelaunchError('usage', '--topLogprobs is for --json', {
            hint: 'they are parts of its pieces and of its result',
          });
        }
        const { model, prompt } = readWords([first, second], options, 'complete');
        const text = await readPrompt(ui, prompt, options.file);
        if (text === null) {
          throw new OnelaunchError('usage', 'no --prompt given, and nothing on stdin', {
            hint: 'for example: gen complete qwen3-tiny "A kernel is"',
          });
        }
        await using llm = await loadWithProgress(ui, model, options, { first: { text } });
        const result = await printReply(ui, (told) =>
          llm.complete(text, { ...replyOptions(options), topLogprobs, ...told }),
        );
        return replyCode(ui, result);
      }),
    );
}
