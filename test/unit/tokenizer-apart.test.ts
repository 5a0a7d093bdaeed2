// Long texts are read beside the event loop, and become the same tokens.
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { promptsOf } from '../../runtime/prompts.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { TokenizerApart } from '../../runtime/tokenizer-apart.ts';
import { llama2, makeDirectory, tinyDirectory } from '../support/model-directory.ts';
import { post, served, tokenizer } from '../support/served.ts';

const text = 'A kernel is a nut, and a daemon is none. '.repeat(2000);
const ids = tokenizer.encode(text);

it('a long text and many tokens leave the event loop to others', async () => {
  const { app, llm } = served({ context: 100_000 });
  const order: string[] = [];
  setImmediate(() => order.push('another'));
  const answer = await post(app, '/tokenize', { prompt: text });
  order.push('tokens');
  expect(await answer.json()).toMatchObject({ tokens: ids });
  setImmediate(() => order.push('another'));
  const back = await post(app, '/detokenize', { tokens: ids });
  order.push('text');
  expect(await back.json()).toEqual({ prompt: text });
  expect(order).toEqual(['another', 'tokens', 'another', 'text']);
  await llm.close();
});

it('a conversation of many messages is put there too, and its special tokens are text unless they are asked for', async () => {
  const inThread = chatTemplate(tinyDirectory);
  const here = vi.fn(inThread);
  const template = Object.assign(here, { source: inThread.source! });
  const parts = { manifest: { model: 'tiny' }, tokenizer, template: () => template };
  const prompts = promptsOf(parts, tokenizer.size);
  const messages = Array.from({ length: 300 }, (_, i) => ({
    role: i % 2 === 0 ? 'user' : 'assistant',
    content: `${i}<|im_end|>`,
  }));
  for (const parseSpecialTokens of [false, true]) {
    const asking = { calling: null, parseSpecialTokens };
    const made = await prompts.apart.encodeChat(messages, asking);
    expect(here).not.toHaveBeenCalled();
    expect(made).toEqual(prompts.encodeChat(messages, asking));
    here.mockClear();
  }
  const wrong = [...messages, { role: 'user', content: [{ type: 'image' }] }];
  const refused = async () => prompts.apart.encodeChat(wrong, { calling: null });
  await expect(refused()).rejects.toThrow('a message has a content part of type "image", supported: "text"');
  prompts.apart.close();
});

it('a signal ends what waits for a long text, without its tokens', async () => {
  const { llm } = served({ context: 100_000 });
  const order: unknown[] = [];
  const push = (what: unknown) => void order.push(what);
  const reason = new Error('enough');
  const asked = () => {
    const stop = new AbortController();
    setImmediate(() => stop.abort(reason));
    return { signal: stop.signal };
  };
  const said = [{ role: 'user', content: text }];
  const session = llm.session({ messages: [...said, { role: 'assistant', content: '' }], whenFull: 'shift' });
  await Promise.all([
    llm.tokenizeApart(text).then(() => push('tokens')),
    llm
      .complete(text, asked())
      .result()
      .then(({ finish }) => push(finish)),
    llm
      .chat(said, asked())
      .result()
      .then(({ finish }) => push(finish)),
    session
      .chat('And?', asked())
      .result()
      .then(({ finish }) => push(finish)),
    llm.score(text, asked()).catch(push),
  ]);
  expect(order).toEqual(['abort', 'abort', 'abort', reason, 'tokens']);
  expect(session.messages).toHaveLength(2);
  await llm.close();
});

it('is read by the tokenizer of before where its file has become another one', async () => {
  const directory = makeDirectory({});
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    copyFileSync(join(tinyDirectory, file), join(directory, file));
  const apart = new TokenizerApart(loadTokenizer(directory));
  writeFileSync(join(directory, 'tokenizer.json'), JSON.stringify(llama2));
  expect(await apart.encode(text)).toEqual(ids);
});

it('a model that is closed while a text of it is read says so', async () => {
  const { llm } = served();
  const reading = llm.tokenizeApart(text);
  await Promise.all([expect(reading).rejects.toThrow('the model is closed'), llm.close()]);
});
