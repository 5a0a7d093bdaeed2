// How a request becomes a reply: what it asks for, a place to run in, and the pieces that the engine's tokens become.
import type { Manifest } from '../abi/manifest.ts';
import { OnelaunchError } from '../errors.ts';
import { behindThinking, thinkingOf } from './chat/thinking.ts';
import { readForm, toolGrammar } from './chat/tool-grammar.ts';
import { toolReader } from './chat/tool-reader.ts';
import type { Speculate, TokenLogprobs } from './engine/options.ts';
import { EngineRun } from './engine-run.ts';
import type { GenerationDefaults } from './generation-config.ts';
import { GrammarThreads } from './grammar/grammar-threads.ts';
import type { GrammarMask, MaskedBy } from './grammar/grammars.ts';
import { KeptLogprobs } from './kept-logprobs.ts';
import type { Place, Places } from './places.ts';
import type { promptsOf } from './prompts.ts';
import { type ChosenLogprob, neverBegun, type Piece, type ReplyResult } from './reply.ts';
import { chosenBelow, lengthBehind, readAsked } from './reply-bounds.ts';
import { replyText } from './reply-text.ts';
import type { CheckedOptions, ReplyOptions } from './sampling.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import { untilAborted } from './until-aborted.ts';

/** How tokens become a reply. */
export interface Asked {
  readonly tokens: (options: CheckedOptions) => readonly number[] | Promise<readonly number[]>;
  readonly defaults: GenerationDefaults;
  /** Whether the reply is one of a conversation, which may call functions. */
  readonly isChat: boolean;
}

export interface ReplyParts {
  readonly manifest: Manifest;
  readonly tokenizer: Tokenizer | null;
  /** Positions of the KV cache: prompt and reply together have at most so many tokens. */
  readonly context: number;
  readonly places: Places;
  /** Whether a draft model was loaded for one reply at a time. */
  readonly drafts: boolean;
  readonly prompts: ReturnType<typeof promptsOf>;
  /** @throws OnelaunchError where the model was closed meanwhile */
  readonly checkOpen: () => void;
}

/** The replies of a model. */
export class Replies {
  readonly #parts: ReplyParts;
  #grammars: GrammarThreads | undefined;

  constructor(parts: ReplyParts) {
    this.#parts = parts;
  }

  /** Takes no more. */
  close(): void {
    this.#grammars?.close();
  }

  /** @throws OnelaunchError as `generate` of a model does, while it is read */
  async *run(
    options: ReplyOptions,
    { tokens, defaults, isChat }: Asked,
    settle: (result: ReplyResult) => void,
  ): AsyncGenerator<Piece, ReplyResult> {
    const started = performance.now();
    const { tokenizer, manifest, context, places, prompts } = this.#parts;
    const { vocab, maxPositions: longest } = manifest.dims;
    const bounds = { tokenizer, defaults, vocab, context, longest };
    const checked = readAsked(options, bounds);
    if (checked.calling !== null && !isChat) {
      throw new OnelaunchError('usage', 'options.tools is for chat', {
        ...{ hint: 'Call chat with messages.', option: ['tools'] },
      });
    }
    const stop = new AbortController();
    const signal = checked.signal ? AbortSignal.any([checked.signal, stop.signal]) : stop.signal;
    const made = tokens(checked);
    const prompt = made instanceof Promise ? await untilAborted(made, signal) : made;
    if (prompt === null) {
      settle(neverBegun);
      return neverBegun;
    }
    const length = lengthBehind(prompt, checked, bounds);
    const size = chosenBelow(bounds);
    const { calling } = checked;
    const form = calling === null ? null : readForm(prompts.needForm(), calling);
    const grammar = form === null ? checked.grammar : toolGrammar(form, calling!);
    const maxTokens = Math.min(context - prompt.length, length);
    const from = form !== null ? 'tools' : options.schema === undefined ? 'grammar' : 'schema';
    const masks = () => this.#mask(grammar!, checked.stopIds, size, signal).catch(worded(from));
    const unbound = grammar && (await masks());
    this.#parts.checkOpen();

    const thinking = unbound && tokenizer ? thinkingOf(tokenizer, prompt, checked.enableThinking) : null;
    const mask = unbound ? behindThinking(unbound, thinking) : undefined;
    const reader = form === null ? null : toolReader(form, calling!.tools);
    const { topLogprobs, bias } = checked;
    const told = topLogprobs === null ? null : new KeptLogprobs((token) => tokenizer?.bytes(token) ?? []);
    const logprobs =
      told === null
        ? undefined
        : { top: topLogprobs!, onLogprobs: (more: readonly TokenLogprobs[]) => told.push(more) };
    const said = replyText(tokenizer, checked, reader && { reader, thinking }, told);

    const run = new EngineRun(started, prompt, maxTokens < length ? 'context' : 'length');
    const result = (): ReplyResult => {
      const { text, tokens } = said.soFar();
      const { finish, ...figures } = run.figures(tokens.length);
      const calls = reader?.calls;
      const hasCalls = finish === 'stop' && calls !== undefined && calls.length > 0;
      const end = {
        ...{ text, tokens, ...(calls && { toolCalls: calls }) },
        finish: said.stopped() ? 'stop' : hasCalls ? 'tool_calls' : finish,
        ...figures,
      };
      if (told === null) return end;
      let named: readonly ChosenLogprob[] | undefined;
      return {
        ...end,
        // Named when somebody looks at them.
        get logprobs() {
          named ??= told.named(0, tokens.length);
          return named;
        },
      };
    };
    const place = await this.#takePlace(prompt, stop, signal, mask);
    if (place === null) {
      settle(result());
      return result();
    }
    const { engine } = place;
    try {
      const cached = await places.share(place, prompt, signal);
      run.cached = cached;
      const { sampling, stopIds, speculate, onPrompt } = checked;
      const made = engine.generate(prompt.slice(cached), {
        ...{ maxTokens, sampling, bias, mask, logprobs, stopIds, signal },
        speculate: speculate ?? (this.#parts.drafts || mask ? 'auto' : usualSpeculation(manifest)),
        onPrompt: (done: number) => {
          place.moved();
          onPrompt?.(cached + done, prompt.length);
        },
      });
      run.begin(made);
      while (!said.stopped()) {
        const batch = await run.next();
        if (batch === undefined) break;
        place.unreadSince = performance.now();
        yield said.take(batch);
        place.unreadSince = undefined;
      }
      const rest = said.end();
      if (rest !== null) yield rest;
    } finally {
      said.end();
      // Left early, or stopped by a text: the engine ends within a token, and tells its times.
      run.leave();
      stop.abort();
      let held: readonly number[] = [];
      try {
        while (run.goesOn) await run.next();
        held = run.heldTo(engine.position);
      } finally {
        mask?.end();
        place.leave(held);
      }
      settle(result());
    }
    return result();
  }

  /** The masks of a reply that is to be a text of a grammar. Null: it was stopped before they could be made. */
  #mask(
    grammar: MaskedBy,
    stopIds: readonly number[],
    size: number,
    signal: AbortSignal,
  ): Promise<GrammarMask | null> {
    this.#grammars ??= new GrammarThreads(this.#parts.prompts.needTokenizer(), size);
    return this.#grammars.mask(grammar, stopIds, signal);
  }

  /** A place for a reply, whose mask ends here if there is none. Null: it was stopped while it waited. */
  async #takePlace(
    prompt: readonly number[],
    stop: AbortController,
    signal: AbortSignal,
    mask: GrammarMask | undefined,
  ): Promise<Place | null> {
    let place: Place | null = null;
    try {
      place = await this.#parts.places.take(prompt, stop, signal);
    } finally {
      if (place === null) mask?.end();
    }
    return place;
  }
}

/** Throws what is wrong; of a grammar that was made of another option, by the name of that one. */
function worded(option: 'grammar' | 'schema' | 'tools'): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof OnelaunchError) || error.option?.[0] !== 'grammar') throw error;
    if (option === 'grammar') throw error;
    throw new OnelaunchError('usage', error.message.replace('the grammar', `the grammar of the ${option}`), {
      hint: 'Make it smaller: fewer optional properties, branches and values of enum, or a smaller maxItems.',
      ...{ cause: error, option: [option] },
    });
  };
}

/** On a GPU drafts cost at most 1.5 % where nothing repeats; on a CPU no gain was seen (docs/devlog.md, sections 15 and 31). */
const usualSpeculation = ({ kind }: Manifest): Speculate => (kind === 'cuda' ? 'auto' : 'off');
