// gen complete: goes on with a text.
import { OnelaunchError } from '../errors.ts';
import { helpEnd, type Program, promptCommand } from './flags.ts';
import { readPrompt, readWords } from './prompt.ts';
import { loadTold, printReply, replyCode, replyOptions } from './reply.ts';
import type { Start } from './ui.ts';

export function addComplete(program: Program, start: Start): void {
  promptCommand(program, 'complete', 'the text')
    .description('continue a text')
    .addHelpText(
      'after',
      helpEnd(
        'gen complete qwen3-tiny "A kernel is" --maxTokens 40',
        'gen complete qwen3-tiny < beginning.txt',
      ),
    )
    .action((...[first, second, options]) =>
      start(options, async (ui) => {
        const { model, prompt } = readWords([first, second], options, 'complete');
        const text = await readPrompt(ui, prompt, options.file);
        if (text === null) {
          throw new OnelaunchError('usage', 'no --prompt given, and nothing on stdin', {
            hint: 'for example: gen complete qwen3-tiny "A kernel is"',
          });
        }
        await using llm = await loadTold(ui, model, options);
        const result = await printReply(ui, (told) =>
          llm.complete(text, { ...replyOptions(options), ...told }),
        );
        return replyCode(result);
      }),
    );
}
