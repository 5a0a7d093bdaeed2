// How texts and conversations become tokens, and tokens become text: all that asks for a model's files beside its weights.
import { z } from 'zod';
import type { Manifest } from '../abi/manifest.ts';
import { inOption, OnelaunchError } from '../errors.ts';
import { plainObject } from '../plain-object.ts';
import type { ChatMessage, ChatTemplate } from './chat/chat-template.ts';
import { type ToolForm, toolForm } from './chat/tool-form.ts';
import { type Calling, withCalls } from './chat/tools.ts';
import { copyArgument } from './engine/arguments.ts';
import { listOf } from './list-of.ts';
import { checkArguments, type ReplyOptions } from './sampling.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import { type Made, TokenizerApart } from './tokenizer-apart.ts';

export interface PromptFiles {
  readonly manifest: Pick<Manifest, 'model'>;
  /** Null: the model is run without its files, on tokens only. */
  readonly tokenizer: Tokenizer | null;
  /** Read when it is first needed: a base model has none. */
  readonly template: (() => ChatTemplate) | null;
}

const textSchema = z.string();
const partSchema = z.looseObject({ type: z.string(), text: z.string().exactOptional() });
const messageSchema = z.looseObject({
  role: z.string(),
  content: z.union([z.string(), listOf(partSchema)], 'expected a text or parts').nullish(),
});
export const copyOfMessages = (messages: readonly ChatMessage[]): readonly ChatMessage[] =>
  copyArgument('messages', messages, 'A message does not nest that deep.');
const messagesSchema = listOf(messageSchema).min(1);
const tokenizeSchema = plainObject({ addSpecialTokens: z.boolean().optional() });
/** Tokens that a model has. */
export const idsBelow = (vocab: number): z.ZodArray<z.ZodInt> => listOf(z.int().min(0).lt(vocab));

/** How a conversation is put to a model. */
interface Asking {
  readonly enableThinking?: boolean | undefined;
  /** What the model may call. */
  readonly calling: Calling | null;
}

/** @param vocab tokens that can be detokenized: ids below it
 *  All of it throws an OnelaunchError of kind usage for arguments of other types, and for files that are not there. */
export function promptsOf({ manifest, tokenizer, template }: PromptFiles, vocab: number) {
  let apart: TokenizerApart | undefined;
  let read: ChatTemplate | undefined;
  let form: ToolForm | undefined;

  const needTokenizer = (): Tokenizer => {
    if (tokenizer === null) throw noFiles(manifest.model, 'tokenizer');
    return tokenizer;
  };
  const needApart = (): TokenizerApart => {
    apart ??= new TokenizerApart(needTokenizer());
    return apart;
  };
  const needTemplate = (): ChatTemplate => {
    read ??= template?.();
    if (read === undefined) throw noFiles(manifest.model, 'chat template');
    return read;
  };
  const needForm = (): ToolForm => {
    const needed = needTemplate();
    form ??= inOption(['tools'], () => toolForm(needed));
    return form;
  };
  /** What a template is to make a text of. @param messages that nobody else has */
  const checkChat = (messages: readonly ChatMessage[], { enableThinking, calling }: Asking) => {
    const checked = withCalls(checkArguments(messagesSchema, messages, 'messages'));
    needTemplate();
    if (calling !== null) needForm();
    return { messages: checked, enableThinking, tools: calling?.described };
  };
  const checkEncoded = (
    messages: readonly ChatMessage[],
    asking: Asking & Pick<ReplyOptions, 'parseSpecialTokens'>,
  ) => {
    // Told first of a model without files, which has neither.
    needTemplate();
    needTokenizer();
    return { ...checkChat(messages, asking), isPlain: !asking.parseSpecialTokens };
  };
  const checkText = (text: string, options: { readonly addSpecialTokens?: boolean }) => {
    const { addSpecialTokens = false } = checkArguments(tokenizeSchema, options, 'options');
    checkArguments(textSchema, text, 'text');
    return { addSpecialTokens };
  };
  const ids = idsBelow(vocab);
  const checkIds = (tokenIds: readonly number[]) => checkArguments(ids, tokenIds, 'tokenIds');

  return {
    needTokenizer,
    /** How the model calls functions. */
    needForm,
    render(...[given, asking]: Parameters<typeof checkChat>): string {
      const { messages, ...options } = checkChat(copyOfMessages(given), asking);
      return needTemplate()(messages, options);
    },
    encodeChat(...[given, asking]: Parameters<typeof checkEncoded>): number[] {
      const { messages, isPlain, ...options } = checkEncoded(copyOfMessages(given), asking);
      const tokenizer = needTokenizer();
      const plain = isPlain ? tokenizer.plain : undefined;
      return tokenizer.encode(needTemplate()(messages, { ...options, plain }));
    },
    tokenize(...[text, options]: Parameters<typeof checkText>): number[] {
      const checked = checkText(text, options);
      return needTokenizer().encode(text, checked);
    },
    detokenize(tokenIds: readonly number[]): string {
      const ids = checkIds(tokenIds);
      return needTokenizer().decode(ids);
    },
    /** The same of long ones in a thread of its own, which `close` ends. */
    apart: {
      /** @param chat messages that are a copy, and may be read later */
      encodeChat(...chat: Parameters<typeof checkEncoded>): Made<number[]> {
        const checked = checkEncoded(...chat);
        return needApart().encodeChat(needTemplate(), checked);
      },
      tokenize(...[text, options]: Parameters<typeof checkText>): Made<number[]> {
        const checked = checkText(text, options);
        return needApart().encode(text, checked);
      },
      detokenize(tokenIds: readonly number[]): Made<string> {
        const ids = checkIds(tokenIds);
        return needApart().decode(ids);
      },
      close: () => apart?.close(),
    },
  };
}

function noFiles(model: string, what: string): OnelaunchError {
  return new OnelaunchError('usage', `there is no ${what} of ${model} here`, {
    hint: 'Give the directory of the model with its tokenizer.json, or use generate with token ids.',
  });
}
