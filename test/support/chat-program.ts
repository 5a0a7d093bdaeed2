// A program of its own: the conversation at the terminal, with a model that says what it was asked.
import { type ChatModel, createConversation } from '../../cli/chat/conversation.ts';
import { talk } from '../../cli/chat/repl.ts';
import { leave, processIo } from '../../cli/io.ts';
import { createUi } from '../../cli/ui.ts';
import { ContextOverflowError } from '../../errors.ts';
import { once, type Piece, type ReplyResult } from '../../runtime/reply.ts';
import { readersOf } from '../../runtime/reply-grammar.ts';
import type { ReplyOptions } from '../../runtime/sampling.ts';

const context = 40;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The last message decides: `count` never ends by itself, `raw` says what a terminal would obey, `long` needs several lines,
 *  `fail` fails, and any other is told again, with the number of messages and the system message before it. A word is a token. */
const llm: ChatModel = {
  context,
  chat: (messages, { signal, temperature }: ReplyOptions = {}) =>
    once(
      async function* (settle): AsyncGenerator<Piece, ReplyResult> {
        const texts = messages.map(({ content }) => String(content));
        const prompt = texts.join(' ').split(/\s+/).length;
        if (prompt >= context) throw new ContextOverflowError(prompt, context);
        const question = texts.at(-1)!;
        if (question === 'fail') throw new Error('the engine broke');
        const system = messages[0]?.role === 'system' ? ` system: ${texts[0]}` : '';
        const warmth = temperature === undefined ? '' : ` at ${temperature}`;
        const answers: Record<string, string> = {
          raw: 'a\u001b[2Jb\u0007c',
          long: 'It was a dark and stormy night; the rain fell in torrents, 雨雨雨雨雨雨雨雨雨雨雨雨雨雨雨雨 and all was wet.',
        };
        const answer =
          answers[question] ?? `[${messages.length}${system}${warmth}] ${JSON.stringify(question)}`;
        let said = '';
        for (let i = 0; !signal?.aborted; i++) {
          const text = question === 'count' ? `${i} ` : (answer.match(/\S+\s*/g)?.[i] ?? '');
          if (text === '') break;
          said += text;
          yield { text, tokens: [i] };
          await pause(question === 'count' ? 20 : 0);
        }
        const result: ReplyResult = {
          ...{ text: said, tokens: [], finish: signal?.aborted ? 'abort' : 'stop' },
          usage: { prompt, cached: 0, completion: 0, drafted: 0, accepted: 0 },
          timings: { promptMs: 0, decodeMs: 0, tokensPerSecond: null, firstTokenMs: null },
        };
        settle(result);
        return result;
      },
      readersOf(() => ({})),
    ),
};

const ui = createUi(processIo(), {});
const told = { context, device: 'a test', manifest: { model: 'a parrot' } };
leave(await talk(ui, told, createConversation(ui, llm, undefined, {})));
