// The thread in which long texts and conversations become tokens, and many tokens text.
import { workerData } from 'node:worker_threads';
import { type ChatTemplate, type TemplateSource, templateOf } from './chat/chat-template.ts';
import { answerCalls } from './thread.ts';
import { loadTokenizer, type TokenizerOrigin } from './tokenizer/tokenizer.ts';
import type { LongChat } from './tokenizer-apart.ts';

const { directory, files } = workerData as TokenizerOrigin;
const tokenizer = loadTokenizer(directory);
let template: ChatTemplate;

answerCalls({
  /** Whether it is the one of that thread. */
  isSame: () => tokenizer.origin.files === files,
  encode: (text: string, options: { addSpecialTokens?: boolean }) =>
    Int32Array.from(tokenizer.encode(text, options)),
  setTemplate: (source: TemplateSource) => {
    template = templateOf(source);
  },
  encodeChat: ({ messages, isPlain, ...options }: LongChat) => {
    const plain = isPlain ? tokenizer.plain : undefined;
    return Int32Array.from(tokenizer.encode(template(messages, { ...options, plain })));
  },
  decode: (ids: Int32Array) => tokenizer.decode([...ids]),
});
