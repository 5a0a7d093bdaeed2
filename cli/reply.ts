// A reply on the terminal: text as it comes, its speed after it, Ctrl-C to stop it.
import type { LoadOptions } from '../load.ts';
import type { CheckedModel } from '../preflight.ts';
import type { ChatMessage } from '../runtime/chat/chat-template.ts';
import type { LanguageModel } from '../runtime/model.ts';
import type { Reply, ReplyResult } from '../runtime/reply.ts';
import type { ReplyOptions } from '../runtime/sampling.ts';
import { exitCode } from './exit-code.ts';
import {
  buildWithProgress,
  type DraftFlags,
  draftOf,
  type KernelFlags,
  kernelOptions,
  openWithProgress,
} from './load-kernel.ts';
import { printable } from './printable.ts';
import type { Ui } from './ui.ts';
import { replyValues } from './values.ts';
import { wordWrap } from './wrap.ts';

/** Options of a reply that a user sets; log probabilities are for programs. */
export type ReplySettings = Omit<ReplyOptions, 'signal' | 'onPrompt' | 'logprobs' | 'topLogprobs'>;

/** The flags of a command that makes replies, as commander parsed them. */
type ReplyFlags = ReplySettings &
  Pick<LoadOptions, 'context' | 'threads' | 'device'> &
  KernelFlags &
  DraftFlags;

/** Of the flags of a command those of a reply. */
export const replyOptions = (flags: ReplySettings): ReplySettings => {
  const names = Object.keys(replyValues) as (keyof typeof replyValues)[];
  return Object.fromEntries(names.map((name) => [name, flags[name]]));
};

export const engineOptions = (
  flags: Pick<LoadOptions, 'context' | 'threads' | 'device'>,
): Pick<LoadOptions, 'context' | 'threads' | 'device'> => ({
  context: flags.context,
  threads: flags.threads,
  device: flags.device,
});

/** What is asked of a model first: a text to go on with, or a conversation. */
export type FirstPrompt = { readonly text: string } | { readonly messages: readonly ChatMessage[] };

/** That a reply can be held to what it is to be, before there is a model. @throws OnelaunchError of kind usage */
export async function checkForm({ grammar, schema }: ReplySettings): Promise<void> {
  if (grammar !== undefined) await (await import('../runtime/grammar/grammars.ts')).checkGrammar(grammar);
  if (schema !== undefined) (await import('../runtime/reply-grammar.ts')).grammarOf({ schema, grammar });
}

/** Builds and loads a model with its weights, and tells how far it is; the caller closes it. Options of a reply, and a first prompt that does not
 *  fit, are refused before anything is compiled. */
export async function loadWithProgress(
  ui: Ui,
  model: string,
  flags: ReplyFlags & Pick<LoadOptions, 'parallel' | 'embeddings'>,
  {
    onChecked,
    first,
    ...needs
  }: {
    /** Whether replies need a chat template. */
    readonly template?: boolean;
    /** As soon as nothing is found wrong. */
    readonly onChecked?: () => Promise<void>;
    readonly first?: FirstPrompt;
  },
): Promise<LanguageModel> {
  const { parallel, embeddings } = flags;
  await checkForm(flags);
  const run = { ...engineOptions(flags), sequences: parallel };
  const needed = { ...run, usual: true };
  const draft = await draftOf(ui, flags, { ...needed, embeddings, target: flags.target });
  const built = await buildWithProgress(
    ui,
    {
      ...kernelOptions(model, flags, ui),
      onChecked: async (checked) => {
        if (first !== undefined) await checkFirst(checked, flags, first);
        await draft.check(checked);
        await onChecked?.();
      },
    },
    {
      ...needs,
      weights: true,
      tokenizer: 'needed',
      embeddings,
      run: needed,
    },
  );
  const { openModel } = await import('../load.ts');
  const { engine } = await openWithProgress(ui, built, { ...run, embeddings });
  try {
    await draft.open(built, engine);
    return await openModel(built, engine, { parallel, embeddings });
  } catch (error) {
    engine.close();
    throw error;
  }
}

/** @throws OnelaunchError of kind usage, as the model's own reply would */
async function checkFirst(
  { dims, directory, files }: CheckedModel,
  flags: ReplyFlags,
  first: FirstPrompt,
): Promise<void> {
  const [{ contextOf }, { lengthBehind, readAsked }, { promptsOf }, { chatTemplate }, { ofChats }] =
    await Promise.all([
      import('../load.ts'),
      import('../runtime/reply-bounds.ts'),
      import('../runtime/prompts.ts'),
      import('../runtime/chat/chat-template.ts'),
      import('../runtime/generation-config.ts'),
    ]);
  const tokenizer = files.tokenizer!;
  const template = () => files.template ?? chatTemplate(directory!);
  const prompts = promptsOf({ manifest: { model: dims.name }, tokenizer, template }, dims.vocab);
  const isChat = 'messages' in first;
  const usual = files.defaults!;
  const bounds = {
    ...{ tokenizer, vocab: dims.vocab, context: contextOf(dims, flags.context) },
    ...{ longest: dims.maxPositions, defaults: isChat ? ofChats(usual) : usual },
  };
  const checked = readAsked(replyOptions(flags), bounds);
  const prompt = isChat
    ? prompts.encodeChat(first.messages, checked)
    : prompts.tokenize(first.text, { addSpecialTokens: true });
  lengthBehind(prompt, checked, bounds);
}

/** Prints a reply as it comes, broken between words on a terminal, and tells its speed on stderr; with --json each piece as a
 *  line, and the result as the last one. Ctrl-C ends the reply, a second one leaves.
 *  @param start makes the reply, given the signal that ends it and who hears how far the prompt is
 *  @param onInterrupt hands over Ctrl-C until what it returns is called */
export async function printReply(
  ui: Ui,
  start: (told: Pick<ReplyOptions, 'signal' | 'onPrompt'>) => Reply,
  onInterrupt = ui.io.onInterrupt,
): Promise<ReplyResult> {
  const { io } = ui;
  const stop = new AbortController();
  const release = onInterrupt(() => {
    if (stop.signal.aborted) process.exit(io.interruptedCode());
    stop.abort();
  });
  const wrap = io.outIsTty ? wordWrap(io.columns) : null;
  let last = '\n';
  const say = (text: string) => {
    if (text === '') return;
    io.out(text);
    last = text;
  };
  const prompt = promptLine(ui);
  try {
    const reply = start({ signal: stop.signal, onPrompt: prompt.update });
    try {
      for await (const piece of reply) {
        prompt.end();
        if (ui.json) ui.result({ piece });
        else say(wrap ? wrap.push(printable(piece.text)) : piece.text);
      }
    } finally {
      prompt.end();
      if (wrap) say(wrap.end());
      if (!last.endsWith('\n')) io.out('\n');
    }
    const result = await reply.result();
    if (ui.json) ui.result({ result });
    else if (result.text === '') io.out('\n');
    ui.note(speed(result), ui.colors.dim);
    return result;
  } finally {
    release();
  }
}

/** Shorter prompts are taken in before one could read how far they are [tokens]. */
const longPrompt = 256;

/** How far a long prompt is: a line of a terminal, until the reply begins. */
function promptLine(ui: Ui): { update(done: number, total: number): void; end(): void } {
  let line = ui.io.errIsTty ? ui.progress('prompt') : null;
  return {
    update: (done, total) => {
      const tokens = `${done.toLocaleString('en')} of ${total.toLocaleString('en')} tokens`;
      if (total >= longPrompt && done < total) line?.update(done / total, tokens);
    },
    end: () => {
      line?.end();
      line = null;
    },
  };
}

/** What the exit code says of a reply: one that Ctrl-C cut short was interrupted. */
export const replyCode = ({ io }: Ui, result: ReplyResult): number =>
  result.finish === 'abort' ? io.interruptedCode() : exitCode.ok;

function speed({ usage, timings, finish }: ReplyResult): string {
  const { prompt, cached, completion, drafted, accepted } = usage;
  const parts = [
    `${completion} tokens`,
    timings.tokensPerSecond === null ? '' : `${timings.tokensPerSecond.toFixed(1)} tok/s`,
    timings.firstTokenMs === null ? '' : `first after ${timings.firstTokenMs.toFixed(0)} ms`,
    `prompt ${prompt}${cached > 0 ? `, ${cached} of them kept` : ''}`,
    drafted > 0 ? `${accepted} of ${drafted} drafts right` : '',
    {
      stop: '',
      tool_calls: '',
      length: 'cut at maxTokens',
      abort: 'stopped',
      context: 'the context is full',
    }[finish],
  ];
  return `[${parts.filter(Boolean).join(', ')}]`;
}
