// The thread in which long texts become tokens, and many tokens text.
import { workerData } from 'node:worker_threads';
import { answerCalls } from '../thread.ts';
import { loadTokenizer, type TokenizerOrigin } from './tokenizer.ts';

const { directory, files } = workerData as TokenizerOrigin;
const tokenizer = loadTokenizer(directory);

answerCalls({
  /** Whether it is the one of that thread. */
  isSame: () => tokenizer.origin.files === files,
  encode: (text: string, options: { addSpecialTokens?: boolean }) =>
    Int32Array.from(tokenizer.encode(text, options)),
  decode: (ids: Int32Array) => tokenizer.decode([...ids]),
});
