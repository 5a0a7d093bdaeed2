// A reply on the terminal: text as it comes, its speed after it, Ctrl-C to stop it.
import type { LoadOptions } from '../load.ts';
import type { LanguageModel } from '../runtime/model.ts';
import type { Reply, ReplyResult } from '../runtime/reply.ts';
import type { ReplyOptions } from '../runtime/sampling.ts';
import { exitCode } from './errors.ts';
import { buildWithProgress, kernelOptions, openWithProgress } from './load-kernel.ts';
import { printable } from './printable.ts';
import type { Ui } from './ui.ts';

/** The flags of replyCommand, as commander parsed them. */
export interface ReplyFlags {
  readonly target?: string | undefined;
  readonly plan?: string | undefined;
  readonly context?: number | undefined;
  readonly threads?: number | undefined;
  readonly device?: number | undefined;
  readonly temperature?: number | undefined;
  readonly topK?: number | undefined;
  readonly topP?: number | undefined;
  readonly minP?: number | undefined;
  readonly seed?: number | undefined;
  readonly maxTokens?: number | undefined;
  readonly repeatPenalty?: number | undefined;
  readonly presencePenalty?: number | undefined;
}

export function replyOptions(flags: ReplyFlags): ReplyOptions {
  const { temperature, topK, topP, minP, seed, maxTokens, presencePenalty } = flags;
  const repetitionPenalty = flags.repeatPenalty;
  return { temperature, topK, topP, minP, seed, maxTokens, presencePenalty, repetitionPenalty };
}

export const engineOptions = (flags: ReplyFlags): Pick<LoadOptions, 'context' | 'threads' | 'device'> => ({
  context: flags.context,
  threads: flags.threads,
  device: flags.device,
});

/** Builds and loads a model with its weights; the caller closes it. @param needs what a reply takes besides a tokenizer */
export async function loadTold(
  ui: Ui,
  model: string,
  flags: ReplyFlags,
  needs: { readonly template?: boolean } = {},
): Promise<LanguageModel> {
  const built = await buildWithProgress(ui, kernelOptions(model, flags, ui), {
    ...{ ...needs, weights: true, tokenizer: 'needed', run: engineOptions(flags) },
  });
  const { openModel } = await import('../load.ts');
  const { engine } = await openWithProgress(ui, built, engineOptions(flags));
  try {
    return await openModel(built, engine);
  } catch (error) {
    engine.close();
    throw error;
  }
}

/** Prints a reply as it comes and tells its speed on stderr. Ctrl-C ends the reply, a second one leaves.
 *  @param start makes the reply, given the signal that ends it */
export async function printReply(ui: Ui, start: (signal: AbortSignal) => Reply): Promise<ReplyResult> {
  const stop = new AbortController();
  const release = ui.io.onInterrupt(() => {
    if (stop.signal.aborted) process.exit(exitCode.interrupted);
    stop.abort();
  });
  try {
    const reply = start(stop.signal);
    let last = '\n';
    if (!ui.json) {
      for await (const { text } of reply) {
        ui.io.out(ui.io.outIsTty ? printable(text) : text);
        if (text !== '') last = text;
      }
    }
    const result = await reply.result();
    if (ui.json) ui.result(result);
    else if (!last.endsWith('\n') || result.text === '') ui.io.out('\n');
    ui.note(ui.colors.dim(speed(result)));
    return result;
  } finally {
    release();
  }
}

/** What the exit code says of a reply: one that Ctrl-C cut short was interrupted. */
export const replyCode = (result: ReplyResult): number =>
  result.finish === 'abort' ? exitCode.interrupted : exitCode.ok;

function speed({ usage, timings, finish }: ReplyResult): string {
  const { prompt, cached, completion } = usage;
  const parts = [
    `${completion} tokens`,
    timings.tokensPerSecond === null ? '' : `${timings.tokensPerSecond.toFixed(1)} tok/s`,
    timings.firstTokenMs === null ? '' : `first after ${timings.firstTokenMs.toFixed(0)} ms`,
    `prompt ${prompt}${cached > 0 ? `, ${cached} of them kept` : ''}`,
    { stop: '', length: 'cut at maxTokens', abort: 'stopped', context: 'the context is full' }[finish],
  ];
  return `[${parts.filter(Boolean).join(', ')}]`;
}
