// Long texts are read beside the event loop, and become the same tokens.
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { TokenizerApart } from '../../runtime/tokenizer/tokenizer-apart.ts';
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
