// Grammars of a model's replies: compiled once for its tokens, then asked before each token which may come next.
import { createHash } from 'node:crypto';
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from '@mlc-ai/web-xgrammar';
import { OnelaunchError } from '../../errors.ts';
import { allow, type Foreseen, isAllowed, type MaskOrEnd, type TokenMask } from '../engine/token-masks.ts';
import { TimeLimit, withinTime } from '../time-limit.ts';
import { byteLetters } from '../tokenizer/byte-letters.ts';
import { refusal, withClassesOfBytes } from './classes.ts';
import { ForcedTokens, spelledBytes } from './forced-tokens.ts';
import {
  type BoundedGrammar,
  type ByteMatcher,
  countLengths,
  fillers,
  type LengthCounter,
} from './length-counter.ts';
import { remember } from './recent.ts';
import type { TokenTexts } from './shared-tokens.ts';
import { type Vocabulary, vocabularyOf } from './token-lengths.ts';
import { loadXGrammar, type XGrammar } from './xgrammar.ts';

/** EBNF as of xgrammar, from its rule root on; or a regular expression that the whole reply is. A class holds up to 1,000 characters beyond ASCII,
 *  and leaves none of them out. */
export type Grammar = string | { readonly regex: string };

/** What a reply can be held to. */
export type MaskedBy = Grammar | BoundedGrammar;

export interface GrammarMask extends TokenMask {
  /** Frees what the matching holds. */
  end(): void;
}

/** Longer grammars take too long. */
const mostCharacters = 1_000_000;
const compileMillis = 10_000;
/** Masks of all that was thought of take less than 50 ms. */
const maskMillis = 5000;
const smaller = 'Make it smaller: fewer rules, alternatives and repeats.';
/** Grammars that are kept. */
const mostKept = 32;

/** What grammars are compiled for. */
type Over = 'tokens' | 'bytes';

type Lengths = LengthCounter & { end(): void };

interface Loaded extends XGrammar {
  readonly forced: ForcedTokens;
  readonly compilers: Readonly<Record<Over, GrammarCompiler>>;
  /** By their texts, the one that was used last at the end. */
  readonly compiled: Map<string, CompiledGrammar>;
}

/** The token behind all bytes, which ends what is matched byte by byte. */
const endOfBytes = 256;

/** The grammars over the tokens of a model, in this thread. */
export class Grammars {
  readonly #texts: TokenTexts;
  readonly #size: number;
  readonly #load: typeof loadXGrammar;
  #loaded: Promise<Loaded> | undefined;
  #vocabulary: Vocabulary | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  /** @param size tokens that can be chosen: ids below it */
  constructor(texts: TokenTexts, size: number, load: typeof loadXGrammar = loadXGrammar) {
    this.#texts = texts;
    this.#size = size;
    this.#load = load;
  }

  /** Resolves when grammars can be compiled. */
  async ready(): Promise<void> {
    this.#loaded ??= this.#start();
    await this.#loaded;
  }

  /** The masks of one reply. @param stopIds tokens that end it, where the grammar is complete
   *  @throws OnelaunchError of kind usage for a grammar that cannot be read */
  mask(grammar: MaskedBy, stopIds: readonly number[]): Promise<GrammarMask> {
    // One after the other: what one refuses ends the instance, and what one drops another may be about to use.
    const opened = this.#turn.then(() => this.#open(grammar, stopIds));
    this.#turn = opened.catch(() => {});
    return opened;
  }

  async #open(grammar: MaskedBy, stopIds: readonly number[]): Promise<GrammarMask> {
    if (stopIds.length === 0) {
      throw new OnelaunchError('usage', 'a reply of a grammar needs a token that ends it', {
        ...{ hint: 'Leave stopIds out, or name one.', option: ['stopIds'] },
      });
    }
    const isBounded = typeof grammar === 'object' && 'exact' in grammar;
    const matcher = await this.#matcher(isBounded ? grammar.loose : grammar, 'tokens', stopIds);
    const lengths = isBounded ? await this.#lengths(grammar) : null;
    const { forced } = await this.#loaded!;
    return maskOf(matcher, lengths, forced, stopIds);
  }

  async #lengths({ exact, loose, entry }: BoundedGrammar): Promise<Lengths> {
    this.#vocabulary ??= vocabularyOf(this.#texts.bytes, this.#size);
    const matchers = [
      await this.#matcher(exact, 'bytes', [endOfBytes]),
      await this.#matcher(loose, 'bytes', [endOfBytes]),
    ];
    const [exactly, loosely] = matchers.map(
      (matcher): ByteMatcher => ({
        accept: (byte) => matcher.acceptToken(byte),
        back: (count) => matcher.rollBack(count),
      }),
    );
    const filler = fillers.find((letter) => !exact.includes(letter)) ?? fillers[0]!;
    const places = { exact: exactly!, loose: loosely! };
    return {
      ...countLengths(this.#vocabulary, places, [...Buffer.from(filler)], entry),
      end: () => {
        for (const matcher of matchers) matcher.dispose();
      },
    };
  }

  /** @param stopIds tokens that end what is matched */
  async #matcher(grammar: Grammar, over: Over, stopIds: readonly number[]): Promise<GrammarMatcher> {
    const { compiled, package: x } = await this.#compile(grammar, over);
    return x.GrammarMatcher.createGrammarMatcher(compiled, [...stopIds]);
  }

  async #compile(
    grammar: Grammar,
    over: Over,
  ): Promise<Pick<Loaded, 'package'> & { compiled: CompiledGrammar }> {
    checkLength(grammar);
    const key = `${over} ${keyOf(grammar)}`;
    this.#loaded ??= this.#start();
    const loaded = await this.#loaded;
    const { package: x, compilers, compiled } = loaded;
    const known = compiled.get(key);
    if (known !== undefined) {
      remember(compiled, key, known, mostKept);
      return { package: x, compiled: known };
    }
    loaded.told();
    try {
      const made = withinTime(compileMillis, () => {
        const read = readGrammar(grammar, loaded);
        const handle = compilers[over].handle.CompileGrammar(read.handle);
        read.dispose();
        return new x.CompiledGrammar(handle);
      });
      // Masks that are made of it keep what they need.
      remember(compiled, key, made, mostKept)?.dispose();
      return { package: x, compiled: made };
    } catch (cause) {
      // What it was in the middle of is left as it was: those that come next begin anew.
      this.#loaded = undefined;
      throw refusalOf(grammar, cause, loaded.told());
    }
  }

  async #start(): Promise<Loaded> {
    const x = await this.#load();
    const { TokenizerInfo, GrammarCompiler } = x.package;
    const vocab = Array.from({ length: this.#size }, (_, id) =>
      // An empty token is never allowed: special ones have no text.
      this.#texts.specialIds.has(id) ? '' : spelledBytes(this.#texts.bytes(id)),
    );
    const compilerOf = async (tokens: string[]): Promise<GrammarCompiler> => {
      const info = await TokenizerInfo.createTokenizerInfo(tokens, 'byte_level', false, tokens.length, []);
      // What is compiled is kept here.
      return GrammarCompiler.createGrammarCompiler(info, false);
    };
    const compilers = { tokens: await compilerOf(vocab), bytes: await compilerOf([...byteLetters, '']) };
    return { ...x, compilers, compiled: new Map(), forced: new ForcedTokens(vocab) };
  }
}

/** A mask of which is told what each call takes that makes some of it [ms]. */
export function timed(mask: GrammarMask, took: (millis: number) => void): GrammarMask {
  const time = async <T>(make: () => T | Promise<T>): Promise<T> => {
    const begun = performance.now();
    const made = await make();
    took(performance.now() - begun);
    return made;
  };
  return {
    ...mask,
    next: (tokens) => time(() => mask.next(tokens)),
    foresee: () => {
      const foresee = mask.foresee?.() ?? null;
      return foresee && ((most) => time(() => foresee(most)));
    },
  };
}

/** The masks of a text that a matcher is at the beginning of. @param lengths null: there are no bounds */
function maskOf(
  matcher: GrammarMatcher,
  lengths: Lengths | null,
  forced: ForcedTokens,
  stopIds: readonly number[],
): GrammarMask {
  let ended = false;
  /** What may be chosen here; no words behind the end. */
  let here: Int32Array = new Int32Array();
  /** What is forced here, where that was asked for, and behind tokens that were foreseen. */
  let texts: string[] = [];

  const go = (token: number): void => {
    if (!matcher.acceptToken(token)) {
      throw new OnelaunchError('failed', `token ${token} is not of the grammar`);
    }
    lengths?.push(token);
  };
  /** Of the token that comes next; null: none may. */
  const words = async (): Promise<Int32Array | 'end' | null> => {
    const begun = performance.now();
    const made = await matcher.getNextTokenBitmask();
    lengths?.narrow(made);
    checkTime(performance.now() - begun);
    if (mayEnd(matcher, stopIds)) allowAll(made, stopIds);
    if (hasOthers(made, stopIds)) return made;
    // Where only an end may come, none needs to be computed.
    return made.some((word) => word !== 0) ? 'end' : null;
  };
  const forcedBy = (mask: Int32Array): string =>
    stopIds.some((id) => id >> 5 < mask.length && isAllowed(mask, id)) ? '' : forced.text(mask);
  const foresee = async (most: number): Promise<Foreseen> => {
    const back = lengths?.mark();
    const masks: Int32Array[] = [];
    const tokens: number[] = [];
    let gone = 0;
    for (let mask = here; tokens.length < most; ) {
      const text = forcedBy(mask);
      texts[gone] = text;
      const token = forced.first(text);
      if (token === undefined || !isAllowed(mask, token)) break;
      go(token);
      gone++;
      const behind = await words();
      if (behind === null || behind === 'end') break;
      tokens.push(token);
      masks.push(behind);
      mask = behind;
    }
    if (gone > 0) matcher.rollBack(gone);
    back?.();
    return { tokens, masks };
  };
  return {
    next: async (tokens): Promise<MaskOrEnd> => {
      here = new Int32Array();
      for (const [i, token] of tokens.entries()) {
        if (ended || stopIds.includes(token)) return 'end';
        go(token);
        forced.note(texts[i] ?? '', token);
      }
      texts = [];
      const made = ended ? 'end' : await words();
      if (made === 'end') return made;
      if (made !== null) {
        here = made;
        return made;
      }
      throw new OnelaunchError('usage', 'no token goes on with the text as the grammar asks for', {
        hint: 'A rule of it may never end, or ask for characters that the model has no tokens of.',
      });
    },
    foresee: () => {
      texts = ended ? [] : [forcedBy(here)];
      return texts[0] ? foresee : null;
    },
    end: () => {
      if (ended) return;
      matcher.dispose();
      lengths?.end();
      ended = true;
    },
  };
}

/** That the next mask can be waited for, which takes longer: one at a time is all that stands between a reply and a thread that is busy for minutes. */
function checkTime(millis: number): void {
  if (millis <= maskMillis) return;
  throw new OnelaunchError('usage', `what may come next took ${(millis / 1000).toFixed(1)} s to find`, {
    hint: 'The text can be read in too many ways by the grammar: a repeat inside of another, such as (a*){0,99}, where one would do.',
  });
}

/** That a grammar can be read, before there is a model to compile it for.
 *  @param millis that it may take
 *  @throws OnelaunchError of kind usage */
export async function checkGrammar(grammar: Grammar, millis = compileMillis): Promise<void> {
  checkLength(grammar);
  const loaded = await loadXGrammar();
  try {
    withinTime(millis, () => readGrammar(grammar, loaded)).dispose();
  } catch (cause) {
    throw refusalOf(grammar, cause, loaded.told());
  }
}

/** Tells a grammar from others. */
export function keyOf(grammar: MaskedBy): string {
  return createHash('sha256').update(JSON.stringify(grammar)).digest('base64');
}

function checkLength(grammar: Grammar): void {
  const { length } = typeof grammar === 'string' ? grammar : grammar.regex;
  if (length <= mostCharacters) return;
  throw new OnelaunchError(
    'usage',
    `the grammar has ${length} characters, and there may be ${mostCharacters}`,
    { hint: smaller, option: ['grammar'] },
  );
}

const readGrammar = (grammar: Grammar, { fromEbnf, fromRegex }: XGrammar) =>
  typeof grammar === 'string'
    ? fromEbnf(withClassesOfBytes(grammar, 'ebnf'))
    : fromRegex(withClassesOfBytes(grammar.regex, 'regex'));

/** @param told what the library wrote in the meantime */
function refusalOf(grammar: Grammar, cause: unknown, told: string): OnelaunchError {
  if (cause instanceof OnelaunchError) return cause;
  const [, why] = /\[FATAL\] [^ ]+: (.*)/.exec(told) ?? [];
  const late =
    cause instanceof TimeLimit ? `compiling it takes more than ${compileMillis / 1000} s` : undefined;
  const said = cause instanceof Error ? cause.message : 'it cannot be read';
  const hint = late
    ? smaller
    : typeof grammar === 'string'
      ? 'EBNF such as: root ::= "yes" | "no"'
      : 'Groups, classes, alternatives and repeats are supported; look-around and back references are not.';
  return refusal(late ?? why ?? said, hint, cause);
}

/** Whether the text is complete. Where all but a few tokens may come, 0.1.27 leaves the end out of its masks, though it takes it. */
function mayEnd(matcher: GrammarMatcher, [first]: readonly number[]): boolean {
  if (!matcher.acceptToken(first!)) return false;
  matcher.rollBack(1);
  return true;
}

function allowAll(words: Int32Array, ids: readonly number[]): void {
  for (const id of ids) if (id >> 5 < words.length) allow(words, id);
}

/** Whether a mask allows others than these tokens. */
function hasOthers(words: Int32Array, ids: readonly number[]): boolean {
  // Thousands of words, most of them 0: no iterator.
  for (let at = 0; at < words.length; at++) {
    if (words[at] === 0) continue;
    const ends = ids.filter((id) => id >> 5 === at).reduce((bits, id) => bits | (1 << (id & 31)), 0);
    if ((words[at]! & ~ends) !== 0) return true;
  }
  return false;
}
