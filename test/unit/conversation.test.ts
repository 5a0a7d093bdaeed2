// What a conversation keeps, and what of it a model is sent.
import { describe, expect, it } from 'vitest';
import { type ChatModel, createConversation } from '../../cli/chat/conversation.ts';
import { memoryIo } from '../../cli/io.ts';
import { createUi } from '../../cli/ui.ts';
import { ContextOverflowError } from '../../errors.ts';
import { type Finish, once, type ReplyResult } from '../../runtime/reply.ts';
import { readersOf } from '../../runtime/reply-grammar.ts';

/** A model that says `ok` and keeps what it was sent; each message is ten tokens of its context. */
function parrot(context: number, answer: { readonly text: string; readonly finish: Finish } = ok) {
  const sent: string[][] = [];
  const llm: ChatModel = {
    context,
    chat: (messages) =>
      once(
        async function* (settle) {
          const prompt = 10 * messages.length;
          if (prompt >= context) throw new ContextOverflowError(prompt, context);
          sent.push(messages.map(({ role, content }) => `${role}: ${content}`));
          yield { text: answer.text, tokens: [1] };
          const result: ReplyResult = {
            ...answer,
            tokens: [1],
            usage: { prompt, cached: 0, completion: 1, drafted: 0, accepted: 0 },
            timings: { promptMs: 0, decodeMs: 0, tokensPerSecond: null, firstTokenMs: null },
          };
          settle(result);
          return result;
        },
        readersOf(() => ({})),
      ),
  };
  const { io, written } = memoryIo();
  const chat = createConversation(createUi(io, {}), llm, undefined, {});
  return { chat, sent, written };
}
const ok = { text: 'ok', finish: 'stop' } as const;

describe('a conversation', () => {
  it('sends the system message and all turns before the question', async () => {
    const { chat, sent } = parrot(100);
    await chat.ask('one');
    chat.setSystem('be brief');
    await chat.ask('two');
    expect(sent).toEqual([['user: one'], ['system: be brief', 'user: one', 'assistant: ok', 'user: two']]);
  });

  it('sends the newest turns that fit, says what is forgotten, and keeps all', async () => {
    const { chat, sent, written } = parrot(45);
    for (const question of ['1', '2', '3']) await chat.ask(question);
    expect(sent[2]).toEqual(['user: 2', 'assistant: ok', 'user: 3']);
    expect(written.err.match(/the oldest question and its answer are forgotten/g)).toHaveLength(1);
    expect(chat.transcript().turns.map((turn) => turn.question)).toEqual(['1', '2', '3']);
  });

  it('is as it was after a question that cannot fit', async () => {
    const { chat, sent } = parrot(35);
    await chat.ask('one');
    chat.setSystem('long');
    const before = chat.transcript();
    const { chat: tight } = parrot(10);
    tight.begin(before);
    await expect(tight.ask('two')).rejects.toThrow(ContextOverflowError);
    expect(tight.transcript()).toEqual(before);
    chat.setSystem(undefined);
    await chat.ask('three');
    expect(sent.at(-1)).toEqual(['user: one', 'assistant: ok', 'user: three']);
  });

  it('keeps an answer that was stopped, unless nothing was said yet', async () => {
    const stopped = parrot(100, { text: 'so far', finish: 'abort' });
    await stopped.chat.ask('one');
    expect(stopped.chat.transcript().turns).toEqual([{ question: 'one', answer: 'so far' }]);
    const silent = parrot(100, { text: '', finish: 'abort' });
    await silent.chat.ask('one');
    expect(silent.chat.transcript().turns).toEqual([]);
  });

  it('hands options of a reply to the model until they are taken back', async () => {
    const { chat } = parrot(100);
    chat.set({ topK: 4, temperature: 1 });
    chat.set({ topK: undefined });
    expect(chat.settings()).toEqual({ temperature: 1, topK: undefined });
  });
});
