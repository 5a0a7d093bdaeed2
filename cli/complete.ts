// gen complete: goes on with a text.
import { OnelaunchError } from '../errors.ts';
import { helpEnd, needModel, type Program, replyCommand } from './flags.ts';
import { loadTold, printReply, replyCode, replyOptions } from './reply.ts';
import type { Start } from './ui.ts';

export function addComplete(program: Program, start: Start): void {
  replyCommand(program, 'complete')
    .description('continue a text')
    .option('--prompt <text>', 'the text')
    .addHelpText('after', helpEnd('gen complete --model qwen3-tiny --prompt "A kernel is" --maxTokens 40'))
    .action((options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'complete');
        const { prompt } = options;
        if (prompt === undefined || prompt === '') {
          throw new OnelaunchError('usage', 'no --prompt given', {
            hint: 'for example: --prompt "A kernel is"',
          });
        }
        await using llm = await loadTold(ui, model, options);
        const result = await printReply(ui, (signal) =>
          llm.complete(prompt, { ...replyOptions(options), signal }),
        );
        return replyCode(result);
      }),
    );
}
