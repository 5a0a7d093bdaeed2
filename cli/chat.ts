// gen chat: a conversation at the terminal, one question, or a question a line.
import { createInterface } from 'node:readline';
import { OnelaunchError } from '../errors.ts';
import { type Conversation, createConversation, toMessages } from './chat/conversation.ts';
import { exitCode } from './exit-code.ts';
import { helpEnd, type Program, promptCommand } from './flags.ts';
import { readPrompt, readWords } from './prompt.ts';
import { loadWithProgress, replyCode, replyOptions } from './reply.ts';
import type { Start, Ui } from './ui.ts';
import { replyValues } from './values.ts';

export function addChat(program: Program, start: Start): void {
  promptCommand(program, 'chat', 'one question; the answer goes to stdout')
    .description('talk to a model at the terminal, or ask one question: with a prompt, a file or stdin')
    .optionsGroup('Chat:')
    .option('--system <text>', 'the system message')
    .option(
      '--enableThinking <true|false>',
      'Qwen3: false answers without the thinking part',
      replyValues.enableThinking,
    )
    .option(
      '--parseSpecialTokens <true|false>',
      'true: special tokens written in a message are tokens, not text',
      replyValues.parseSpecialTokens,
    )
    .option('--lines', 'each line of stdin is a question of one conversation; /reset begins another')
    .addHelpText(
      'after',
      helpEnd(
        'gen chat qwen3-tiny',
        'gen chat qwen3-tiny "What is a daemon?" --quiet',
        'gen chat --model qwen3-tiny --prompt "Explain this:" < notes.txt',
      ),
    )
    .action((...[first, second, options]) =>
      start(options, async (ui) => {
        const { model, prompt } = readWords([first, second], options, 'chat');
        const { isTTY } = ui.io.stdin;
        checkMode({ ...options, prompt }, isTTY === true);
        const question = options.lines ? null : await readPrompt(ui, prompt, options.file);
        const isTalk = question === null && !options.lines && isTTY;
        if (question === null && !options.lines && !isTTY) {
          throw new OnelaunchError('usage', 'no question: nothing is on stdin', {
            hint: 'for example: gen chat qwen3-tiny "What is a daemon?"',
          });
        }
        if (isTalk && ui.json) {
          throw new OnelaunchError('usage', '--json is for programs, and a terminal is on stdin', {
            hint: 'for example: gen chat qwen3-tiny "What is a daemon?" --json',
          });
        }
        const messages = toMessages({ system: options.system, turns: [] }, question ?? '');
        const llm = await loadWithProgress(ui, model, options, { template: true, first: { messages } });
        // Not `await using`: TypeScript leaves the imports of a function that has it as they are written.
        try {
          const chat = createConversation(ui, llm, options.system, replyOptions(options));
          if (question !== null) return replyCode(ui, await chat.ask(question));
          if (!isTalk) return await answerLines(ui, chat);
          const { talk } = await import('./chat/repl.ts');
          return await talk(ui, llm, chat);
        } finally {
          await llm.close();
        }
      }),
    );
}

function checkMode(
  {
    lines,
    prompt,
    file,
  }: { readonly lines?: true; readonly prompt: string | undefined; readonly file?: string },
  isTerminal: boolean,
): void {
  if (!lines) return;
  const other = prompt !== undefined ? '--prompt' : file !== undefined ? '--file' : undefined;
  if (other === undefined && !isTerminal) return;
  const why = other === undefined ? 'a terminal is there' : `${other} is a question of its own`;
  throw new OnelaunchError('usage', `--lines reads questions from stdin, and ${why}`, {
    hint: 'for example: gen chat qwen3-tiny --lines < questions.txt',
  });
}

/** Each line of stdin is a question of one conversation. */
async function answerLines(ui: Ui, chat: Conversation): Promise<number> {
  const { stdin: input, signal, interruptedCode } = ui.io;
  for await (const line of createInterface({ input, signal, crlfDelay: Number.POSITIVE_INFINITY })) {
    const question = line.trim();
    if (question === '/reset') chat.begin({ ...chat.transcript(), turns: [] });
    else if (question !== '') {
      const code = replyCode(ui, await chat.ask(question));
      if (code !== exitCode.ok) return code;
    }
  }
  return signal.aborted ? interruptedCode() : exitCode.ok;
}
