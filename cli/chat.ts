// gen chat: one question, a question a line, or a conversation at the terminal.
import { createInterface } from 'node:readline';
import { ContextOverflow, OnelaunchError } from '../errors.ts';
import type { ChatMessage } from '../runtime/chat-template.ts';
import type { LanguageModel } from '../runtime/model.ts';
import type { ReplyResult } from '../runtime/reply.ts';
import { exitCode } from './errors.ts';
import { helpEnd, needModel, type Program, replyCommand } from './flags.ts';
import { loadTold, printReply, replyCode, replyOptions } from './reply.ts';
import type { Start, Ui } from './ui.ts';

export function addChat(program: Program, start: Start): void {
  replyCommand(program, 'chat')
    .description(
      'talk to a model: at the terminal, one question with --prompt, or a question a line on stdin',
    )
    .option('--prompt <text>', 'one question; the answer goes to stdout')
    .option('--system <text>', 'the system message')
    .option('--no-thinking', 'Qwen3: answer without the thinking part')
    .addHelpText(
      'after',
      helpEnd(
        'gen chat --model qwen3-tiny',
        'gen chat --model qwen3-tiny --prompt "What is a daemon?" --quiet',
        'echo "define water" | gen chat --model qwen3-tiny',
      ),
    )
    .action((options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'chat');
        if (options.prompt === '') {
          throw new OnelaunchError('usage', '--prompt is empty', {
            hint: 'for example: --prompt "What is a daemon?"',
          });
        }
        await using llm = await loadTold(ui, model, options, { template: true });
        const enableThinking = options.thinking ? undefined : false;
        const reply = { ...replyOptions(options), enableThinking };
        const chat = createChat(ui, llm, options.system, reply);
        if (options.prompt !== undefined) return replyCode(await chat.ask(options.prompt));
        return ui.io.stdin.isTTY ? await talk(ui, llm, chat) : await answerLines(ui, chat);
      }),
    );
}

interface Chat {
  ask(question: string): Promise<ReplyResult>;
  reset(): void;
  /** Tokens and time of all replies. */
  total(): { readonly replies: number; readonly tokens: number; readonly decodeMs: number };
}

function createChat(
  ui: Ui,
  llm: LanguageModel,
  system: string | undefined,
  options: Parameters<LanguageModel['chat']>[1],
): Chat {
  const first: readonly ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }];
  /** Questions with their answers. */
  let turns: (readonly [ChatMessage, ChatMessage])[] = [];
  let total = { replies: 0, tokens: 0, decodeMs: 0 };
  return {
    reset: () => {
      turns = [];
    },
    total: () => total,
    ask: async (content) => {
      const question: ChatMessage = { role: 'user', content };
      for (;;) {
        try {
          const messages = [...first, ...turns.flat(), question];
          const result = await printReply(ui, (signal) => llm.chat(messages, { ...options, signal }));
          turns.push([question, { role: 'assistant', content: result.text }]);
          const { replies, tokens, decodeMs } = total;
          total = {
            replies: replies + 1,
            tokens: tokens + result.tokens.length,
            decodeMs: decodeMs + result.timings.decodeMs,
          };
          return result;
        } catch (error) {
          if (!(error instanceof ContextOverflow) || turns.length === 0) throw error;
          turns = turns.slice(1);
          ui.warn(
            `the context of ${llm.context} tokens is full: the oldest question and its answer are forgotten`,
          );
        }
      }
    },
  };
}

/** Each line of stdin is a question of one conversation. */
async function answerLines(ui: Ui, chat: Chat): Promise<number> {
  let code: number = exitCode.ok;
  for await (const line of createInterface({ input: ui.io.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    const question = line.trim();
    if (question === '') continue;
    if (question === '/reset') {
      chat.reset();
      continue;
    }
    code = replyCode(await chat.ask(question));
    if (code !== exitCode.ok) break;
  }
  return code;
}

const help = `/reset  begin a new conversation
/stats  tokens and speed so far
/exit   leave (Ctrl-D does the same)
A line that ends in \\ goes on in the next. Ctrl-C stops a reply; without one it leaves.`;

/** The conversation at a terminal. */
async function talk(ui: Ui, llm: LanguageModel, chat: Chat): Promise<number> {
  const { historyFile, readHistory, writeHistory } = await import('./history.ts');
  const file = await historyFile();
  const lines = createInterface({
    input: ui.io.stdin,
    output: process.stderr,
    terminal: true,
    history: readHistory(file),
    historySize: 200,
    removeHistoryDuplicates: true,
    completer: (line: string) => {
      const known = ['/reset', '/stats', '/exit', '/help'];
      const found = known.filter((word) => word.startsWith(line));
      return [line.startsWith('/') ? (found.length > 0 ? found : known) : [], line];
    },
  });
  lines.on('history', (history: string[]) => writeHistory(file, history));
  ui.note(`${llm.manifest.model} on ${llm.device}. /help lists the commands.`);
  const input = lineQueue(lines);
  let question = '';
  try {
    for (;;) {
      lines.setPrompt(ui.colors.bold(question === '' ? '> ' : '… '));
      lines.prompt();
      const line = await input.next();
      if (line === 'interrupt') return exitCode.interrupted;
      if (line === 'end') return exitCode.ok;
      const [, start = '', more] = /^(.*?)(\\?)$/s.exec(line.text) ?? [];
      question += start;
      if (more) {
        question += '\n';
        continue;
      }
      const asked = question.trim();
      question = '';
      if (asked === '/exit' || asked === '/quit') return exitCode.ok;
      if (asked === '') continue;
      if (asked === '/help') ui.io.err(`${help}\n`);
      else if (asked === '/reset') {
        chat.reset();
        ui.note('a new conversation');
      } else if (asked === '/stats') {
        const { replies, tokens, decodeMs } = chat.total();
        const rate = tokens > replies && decodeMs > 0 ? ((tokens - replies) / decodeMs) * 1000 : null;
        ui.io.err(
          `replies: ${replies}, tokens: ${tokens}${rate === null ? '' : `, ${rate.toFixed(1)} tok/s`}\n`,
        );
      } else if (/^\/[a-z]+$/.test(asked)) {
        ui.io.err(`there is no ${asked}\n${help}\n`);
      } else {
        await chat.ask(asked).catch((error: unknown) => {
          if (!(error instanceof OnelaunchError) || error.kind !== 'usage') throw error;
          ui.io.err(`error: ${error.message}\n`);
        });
      }
    }
  } finally {
    lines.close();
  }
}

/** The lines of a terminal one by one; those that arrive meanwhile, as in a paste, wait. */
function lineQueue(lines: ReturnType<typeof createInterface>) {
  type Event = { readonly text: string } | 'interrupt' | 'end';
  const waiting: Event[] = [];
  let wake: (() => void) | undefined;
  const add = (event: Event) => {
    waiting.push(event);
    wake?.();
  };
  lines.on('line', (text) => add({ text }));
  lines.on('close', () => add('end'));
  lines.on('SIGINT', () => {
    // While a reply runs, the process' own handler ends it.
    if (wake === undefined) process.emit('SIGINT');
    else add('interrupt');
  });
  return {
    next: async (): Promise<Event> => {
      if (waiting.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = undefined;
      }
      return waiting.shift()!;
    },
  };
}
