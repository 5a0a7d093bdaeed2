// gen demo: everything once, with the bundled model.
import { exitCode } from './exit-code.ts';
import { engineCommand, helpEnd, inCheckout, type Program } from './flags.ts';
import { buildWithProgress, kernelOptions, openWithProgress } from './load-kernel.ts';
import { engineOptions, printReply, replyCode } from './reply.ts';
import type { Start } from './ui.ts';
import { goldenFits, verifyWithProgress } from './verify.ts';

const questions = ['What is a daemon?', 'Define politics, cynically.', 'define water'];

export function addDemo(program: Program, start: Start): void {
  engineCommand(program, 'demo')
    .description('generate, build, verify and explain the bundled model, and ask it three questions')
    .addHelpText('after', helpEnd('gen demo', 'gen demo --target cpu --plan unfused'))
    .action((options) =>
      start(options, async (ui) => {
        const title = (text: string) => ui.note(`\n${text}`, ui.colors.bold);
        const model = options.model ?? 'qwen3-tiny';
        const { explainTable, estimate } = await import('../codegen/index.ts');
        const { openModel } = await import('../load.ts');
        const { formatVerify } = await import('../runtime/verify/format-verify.ts');

        title('1. Generate and compile');
        const built = await buildWithProgress(ui, kernelOptions(model, options, ui), {
          ...{ weights: true, tokenizer: 'needed', template: true, run: engineOptions(options) },
          also: goldenFits(options),
        });
        ui.note(built.directory);

        title('2. The schedule');
        const { schedule, prompts } = built.kernel;
        for (const one of [schedule, ...(prompts ? [prompts.schedule] : [])])
          if (!ui.json) ui.data(explainTable(one, estimate(one)).trimEnd());

        title('3. Verify against logits of transformers');
        const verified = await verifyWithProgress(ui, built, engineOptions(options));
        if (ui.json) ui.result({ kernel: built.kernel.name, hash: built.kernel.hash, verify: verified });
        else ui.data(formatVerify(verified));
        if (!verified.ok) return exitCode.failed;

        title('4. Ask');
        const { engine } = await openWithProgress(ui, built, engineOptions(options));
        // Not `await using`: TypeScript leaves the imports of a function that has it as they are written.
        const llm = await openModel(built, engine);
        try {
          for (const content of questions) {
            ui.note(`\n> ${content}`, ui.colors.bold);
            const messages = [{ role: 'user', content }];
            const result = await printReply(ui, (told) => llm.chat(messages, { ...told, maxTokens: 200 }));
            if (result.finish === 'abort') return replyCode(ui, result);
          }
        } finally {
          await llm.close();
        }
        ui.note(`\nNext: gen chat ${model}\n${inCheckout}`);
        return exitCode.ok;
      }),
    );
}
