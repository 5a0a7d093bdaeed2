// A conversation that remembers, over a model that is made up: it answers with the number of messages it was sent.
import { expect, test, vi } from 'vitest';
import { z } from 'zod';
import { ContextOverflowError, OnelaunchError } from '../../errors.ts';
import type { ChatMessage } from '../../runtime/chat/chat-template.ts';
import type { LanguageModel } from '../../runtime/model.ts';
import { once, type ReplyResult } from '../../runtime/reply.ts';
import { readersOf } from '../../runtime/reply-grammar.ts';
import { Session, type SessionOptions } from '../../runtime/session.ts';
import { failureOf } from '../support/refusal.ts';

/** A message is as many tokens as it has characters. */
function counting(context = 1000) {
  const sent: { messages: readonly ChatMessage[]; options: object }[] = [];
  const counted = { messages: 0 };
  const countTokens = (messages: string | readonly ChatMessage[]) => {
    counted.messages += messages.length;
    return [...messages].reduce((sum, message) => sum + String((message as ChatMessage).content).length, 0);
  };
  const chat: LanguageModel['chat'] = (messages, options = {}) =>
    once(
      async function* (settle) {
        const prompt = countTokens(messages);
        if (prompt >= context) throw new ContextOverflowError(prompt, context);
        sent.push({ messages, options });
        const words = ['answer ', 'to ', String(messages.length)];
        let text = '';
        const result = (finish: 'stop' | 'abort') =>
          ({ text, tokens: [], finish, usage: {}, timings: {} }) as unknown as ReplyResult;
        let finish: 'stop' | 'abort' = 'abort';
        try {
          for (const word of words) {
            await new Promise((resolve) => setImmediate(resolve));
            if (options.signal?.aborted) break;
            text += word;
            yield { text: word, tokens: [] };
          }
          finish = options.signal?.aborted ? 'abort' : 'stop';
        } finally {
          settle(result(finish));
        }
        return result(finish);
      },
      readersOf(() => ({})),
    );
  const saved: [string, SessionOptions][] = [];
  const save = async (file: string, options: SessionOptions) => void saved.push([file, options]);
  const llm = { chat, context, save };
  let isOpen = true;
  const checkOpen = () => {
    if (!isOpen) throw new OnelaunchError('usage', 'the model is closed');
  };
  const close = () => {
    isOpen = false;
  };
  return {
    sent,
    counted,
    saved,
    close,
    session: (options: SessionOptions = {}) =>
      new Session(llm, options, { checkOpen, countTokens: async (messages) => countTokens(messages) }),
  };
}
const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });
const system = { role: 'system', content: 'Be brief.' };

test('a question is sent with all that was said before, and kept with its answer', async () => {
  const { session, sent } = counting();
  const one = session({ messages: [system], reply: { temperature: 0.5, seed: 1 } });
  expect(await one.chat('a').text()).toBe('answer to 2');
  const pieces: string[] = [];
  for await (const { text } of one.chat(user('b'), { seed: 2 })) pieces.push(text);
  expect(pieces.join('')).toBe('answer to 4');
  expect(sent[1]).toEqual({
    messages: [system, user('a'), assistant('answer to 2'), user('b')],
    options: { temperature: 0.5, seed: 2 },
  });
  expect(one.messages).toEqual([...sent[1]!.messages, assistant('answer to 4')]);
});

test('an object that is used again for the next question leaves what was asked as it was', async () => {
  const { session } = counting();
  const [one, question] = [session(), user('a')];
  await one.chat(question).text();
  question.content = 'b';
  await one.chat(question).text();
  expect(one.messages.map(({ content }) => content)).toEqual(['a', 'answer to 1', 'b', 'answer to 3']);
});

test('what a caller changes afterwards, parts of messages too, is not changed in the conversation', async () => {
  const { session } = counting();
  const part = { type: 'text', text: 'a' };
  const first = { role: 'system', content: [part] };
  const one = session({ messages: [first] });
  const asked = one.chat({ role: 'user', content: [part] });
  part.text = 'b';
  await asked.text();
  expect(one.messages.slice(0, 2).map(({ content }) => content)).toEqual([
    [{ type: 'text', text: 'a' }],
    [{ type: 'text', text: 'a' }],
  ]);
});

test('options of a session are as they were when it was made, schemas and lists too', async () => {
  const { session, sent } = counting();
  const city = { type: 'string' };
  const schema = { type: 'object', properties: { city } };
  const parameters = { type: 'object', properties: { city } };
  const reply = {
    ...{ schema, logitBias: { 7: 1 }, stop: ['a'], stopIds: [1], speculate: { tokens: 2 } },
    ...{
      tools: [{ function: { name: 'f', parameters } }],
      toolChoice: { names: ['f'], mode: 'auto' as const },
    },
  };
  const before = structuredClone(reply);
  const one = session({ reply });
  const change = (options: typeof reply) => {
    options.schema.properties.city.type = 'integer';
    options.tools[0]!.function.parameters.properties.city.type = 'integer';
    options.logitBias[7] = 2;
    options.stop.push('b');
    options.stopIds.push(2);
    options.speculate.tokens = 3;
    options.toolChoice.names.push('g');
  };
  const asked = one.fork().chat('a', reply).text();
  change(reply);
  await asked;
  await one.chat('a').text();
  change(one.toJSON().reply as typeof reply);
  await one.chat('b').text();
  expect(sent.map(({ options }) => options)).toEqual([before, before, before]);
});

test('its messages are one list until more is said, which nobody changes; what is done to others is not done to the conversation', async () => {
  const { session, sent } = counting();
  const begin: ChatMessage[] = [{ role: 'user', content: [{ type: 'text', text: 'a' }] }];
  const one = session({ messages: begin });
  const before = one.messages;
  expect(one.messages).toBe(before);
  const question = user('d');
  const asked = one.chat(question);
  const change = (messages: readonly ChatMessage[]) => {
    (messages[0]!.content as unknown as { text: string }[])[0]!.text = 'b';
    (messages as ChatMessage[]).push(assistant('c'));
  };
  for (const given of [begin, one.toJSON().messages!]) change(given);
  question.content = 'e';
  await asked.text();
  expect(sent[0]!.messages).toEqual([{ role: 'user', content: [{ type: 'text', text: 'a' }] }, user('d')]);
  expect([before.length, one.messages.length]).toEqual([1, 3]);
  expect(one.messages).toBe(one.messages);
  for (const given of [before, one.messages, one.fork().messages]) {
    expect(() => change(given)).toThrow("Cannot assign to read only property 'text'");
    expect(() => (given as ChatMessage[]).push(user('f'))).toThrow(TypeError);
    expect(() => Object.assign(given.at(-1)!, user('f'))).toThrow(TypeError);
  }
});

test('an option that is undefined is left out, and is that of the session', async () => {
  const { session, sent } = counting();
  await session({ reply: { maxTokens: 3 } })
    .chat('a', { maxTokens: undefined, seed: 1 })
    .text();
  expect(sent[0]!.options).toEqual({ maxTokens: 3, seed: 1 });
});

test('options of replies are checked when the session is made', () => {
  const { session } = counting();
  expect(() => session({ reply: { banana: 5n } as never })).toThrow('options.reply has no banana');
  expect(() => session({ reply: { maxTokens: 0 } })).toThrow('options.reply.maxTokens');
  expect(() => session({ reply: { signal: new AbortController().signal } as never })).toThrow('no signal');
});

test('a reply that is left before it is read has a result, and nothing of it is kept', async () => {
  const { session, sent } = counting();
  const one = session();
  const left = one.chat('a');
  await left[Symbol.asyncIterator]().return();
  expect(await left.result()).toMatchObject({ finish: 'abort', text: '', usage: { completion: 0 } });
  const thrown = one.chat('a');
  const why = new Error('no more');
  await expect(thrown[Symbol.asyncIterator]().throw!(why)).rejects.toBe(why);
  await expect(thrown.result()).rejects.toBe(why);
  expect(one.messages).toEqual([]);
  expect(sent).toEqual([]);
});

test('a reply that is left early is kept as far as it was made; one that is aborted before, or fails, is not', async () => {
  const { session } = counting(20);
  const one = session();
  for await (const _ of one.chat('a')) break;
  expect(one.messages).toEqual([user('a'), assistant('answer ')]);
  await one.chat('b', { signal: AbortSignal.abort() }).result();
  expect(await failureOf(one.chat('x'.repeat(20)).result())).toBeInstanceOf(ContextOverflowError);
  expect(one.messages).toHaveLength(2);
  expect(await one.chat('c').text()).toBe('answer to 3');
});

test('it replies to one question at a time, and to the next when that was answered', async () => {
  const { session } = counting();
  const one = session();
  const first = one.chat('a').result();
  expect((await failureOf(one.chat('b').result())).message).toBe('the session is busy with another reply');
  await first;
  expect((await one.chat('b').result()).text).toBe('answer to 3');
});

test('of a model that was closed it says so, also behind a reply that nobody reads on', async () => {
  const { session, close } = counting();
  const one = session();
  await one.chat('a')[Symbol.asyncIterator]().next();
  close();
  expect((await failureOf(one.chat('b').result())).message).toBe('the model is closed');
  expect((await failureOf(one.save('file'))).message).toBe('the model is closed');
});

test('a question behind a reply that is aborted waits for its end, and not for ever where nobody reads on', async () => {
  const { session, saved } = counting();
  const one = session();
  const stop = new AbortController();
  const first = one.chat('a', { signal: stop.signal })[Symbol.asyncIterator]();
  await first.next();
  stop.abort();
  const saving = one.save('file');
  await new Promise((resolve) => setImmediate(resolve));
  expect(saved).toEqual([]);
  await first.next();
  await saving;
  expect(saved).toEqual([['file', { messages: [user('a'), assistant('answer ')] }]]);

  const again = new AbortController();
  const second = one.chat('a', { signal: again.signal }).result();
  again.abort();
  expect(await one.chat('b').text()).toBe('answer to 3');
  expect((await second).finish).toBe('abort');
  expect(one.messages.map(({ content }) => content)).toEqual(['a', 'answer ', 'b', 'answer to 3']);

  const other = session();
  const end = new AbortController();
  const left = other.chat('c', { signal: end.signal })[Symbol.asyncIterator]();
  await left.next();
  end.abort();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const stuck = failureOf(other.chat('d').result());
    await new Promise((resolve) => setImmediate(resolve));
    vi.advanceTimersByTime(10_000);
    expect((await stuck).message).toBe('the session is busy with another reply');
  } finally {
    vi.useRealTimers();
  }
});

test('a fork has the same past and a future of its own, and so has one that was written down', async () => {
  const { session } = counting();
  const one = session({ messages: [system], whenFull: 'shift' });
  await one.chat('a').result();
  const other = one.fork();
  const third = session(JSON.parse(JSON.stringify(one)));
  await one.chat('b').result();
  expect(other.messages).toEqual([system, user('a'), assistant('answer to 2')]);
  expect(third.messages).toEqual(other.messages);
  expect(third.toJSON().whenFull).toBe('shift');
  await other.chat('c').result();
  expect(one.messages.at(-2)).toEqual(user('b'));
});

test('it is saved with all that was said, but not while it replies', async () => {
  const { session, saved } = counting();
  const one = session({ messages: [system], whenFull: 'shift' });
  const reply = one.chat('a').result();
  expect((await failureOf(one.save('file'))).message).toBe('the session is busy with another reply');
  await reply;
  await one.save('file');
  expect(saved).toEqual([['file', { messages: one.messages, whenFull: 'shift' }]]);
});

test('schemas of zod are written down as JSON Schema, and a fork has them as they are', async () => {
  const { session, saved, sent } = counting();
  const schema = z.object({ word: z.enum(['a', 'b']) });
  const parameters = z.object({ city: z.string() });
  const named = { type: 'function', function: { name: 'weather', parameters } } as const;
  const one = session({ reply: { schema, seed: 1, tools: [named, { function: { name: 'now' } }] } });
  const written = {
    schema: expect.objectContaining({
      properties: { word: { type: 'string', enum: ['a', 'b'] } },
      required: ['word'],
    }),
    seed: 1,
    tools: [
      {
        type: 'function',
        function: {
          name: 'weather',
          parameters: expect.objectContaining({ properties: { city: { type: 'string' } } }),
        },
      },
      { function: { name: 'now' } },
    ],
  };
  expect(JSON.parse(JSON.stringify(one)).reply).toEqual(written);
  await one.save('file');
  expect(saved[0]![1].reply).toEqual(written);
  await one.fork().chat('a').result();
  expect(sent[0]!.options).toMatchObject({ schema, tools: [named, {}] });
  const plain = { type: 'object', properties: { n: { type: 'integer' } } };
  expect(session({ reply: { schema: plain } }).toJSON().reply).toEqual({ schema: plain });
  // What was written down is a session again.
  expect(session(one.toJSON()).toJSON().reply).toEqual(written);
  const dated = session({ reply: { schema: z.date() } });
  expect(await failureOf(dated.save('file'))).toMatchObject({ kind: 'usage' });
});

test('when it is full, the oldest turns are left out, but not what the system says', async () => {
  const messages = [system, user('1'.repeat(10)), assistant('2'), user('3'.repeat(10)), assistant('4')];
  const { session, sent } = counting(32);
  const strict = session({ messages });
  expect(await failureOf(strict.chat('5'.repeat(5)).result())).toBeInstanceOf(ContextOverflowError);
  const shifting = session({ messages, whenFull: 'shift' });
  await shifting.chat('5'.repeat(5)).result();
  expect(sent[0]!.messages).toEqual([system, ...messages.slice(3), user('55555')]);
  expect(shifting.messages).toHaveLength(7);
  expect(await failureOf(shifting.chat('5'.repeat(40)).result())).toBeInstanceOf(ContextOverflowError);
});

test('what is left out of a long conversation takes no time of what fits, and as little as possible is', async () => {
  for (const turns of [1, 2, 3, 7, 8, 9, 1000]) {
    for (const fitting of [1, 2, 3, 5, 8, 600]) {
      const pairs = Array.from({ length: turns }, (_, i) => [user(String(i).padStart(8)), assistant('12')]);
      const { session, sent, counted } = counting(10 * fitting + 5);
      await session({ messages: pairs.flat(), whenFull: 'shift' }).chat('ask').text();
      expect(sent[0]!.messages).toEqual([...pairs.slice(-fitting).flat(), user('ask')]);
      // Of each power of two, once more of as many to find the place, and for the prompt itself.
      expect(counted.messages).toBeLessThan(2 * (fitting + 1) * (4 + 2 * Math.ceil(Math.log2(fitting + 1))));
    }
  }
});

test('options that are none are refused', () => {
  const { session } = counting();
  expect(() => session({ whenFull: 'never' } as never)).toThrow('whenFull');
  expect(() => session({ messages: [{}] } as never)).toThrow('role');
  expect(() => session({ history: [] } as never)).toThrow('history');
});

test('an answer is read as JSON by the schema of its question, else of the session', async () => {
  const chat: LanguageModel['chat'] = () =>
    once(
      async function* (settle) {
        const result = {
          text: '"word"',
          tokens: [],
          finish: 'stop',
          usage: {},
          timings: {},
        } as unknown as ReplyResult;
        settle(result);
        yield* [];
        return result;
      },
      readersOf(() => ({})),
    );
  const llm = { chat, context: 100, save: async () => {} };
  const inside = { checkOpen: () => {}, countTokens: async () => 1 };
  const session = (options = {}) => new Session(llm, options, inside);
  const lengthOf = z.string().transform((text) => text.length);
  expect(await session().chat('a').json()).toBe('word');
  expect(await session().chat('a', { schema: lengthOf }).json()).toBe(4);
  const one = session({ reply: { schema: lengthOf } });
  expect(await one.chat('a').json()).toBe(4);
  const failed = await failureOf(one.chat('b', { schema: z.number() }).json());
  expect(failed).toMatchObject({ kind: 'failed' });
  expect(await failureOf(counting().session().chat('a').json())).toMatchObject({
    kind: 'failed',
    message: 'the reply is no JSON',
  });
  const later = z.string().refine(async (text) => text.length > 4, 'too short');
  expect((await failureOf(session().chat('a', { schema: later }).json())).message).toContain('too short');
  const thrower = z.string().transform((): string => {
    throw new TypeError('not so');
  });
  expect(await failureOf(session().chat('a', { schema: thrower }).json())).toMatchObject({
    ...{ kind: 'failed', message: 'the reply is not read by its schema: not so' },
  });
  const left = counting().session().chat('a', { signal: AbortSignal.abort() });
  expect(await failureOf(left.json())).toMatchObject({
    message: 'the reply is no JSON: it ended at "abort"',
    hint: expect.stringContaining('aborted'),
  });
});

test('messages are copied as JSON has them, and instances of classes that JSON does not know are refused', () => {
  const { session } = counting();
  const createdAt = new Date(0);
  const one = session({ messages: [{ role: 'user', content: 'a', createdAt }] });
  expect(one.messages).toEqual([{ role: 'user', content: 'a', createdAt: createdAt.toJSON() }]);
  class Message {
    get role() {
      return 'user';
    }
  }
  expect(() => session({ messages: [new Message() as never] })).toThrow(
    'messages.0 is an instance of a class',
  );
});
