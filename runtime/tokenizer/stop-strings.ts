// Ends a streamed text at a stop string, which may arrive in pieces; special tokens, which have no text, become stop ids.
import type { Tokenizer } from './tokenizer.ts';

interface SortedStops {
  /** To be looked for in the text. */
  readonly texts: readonly string[];
  /** Special tokens: they end the reply as tokens. */
  readonly ids: readonly number[];
  /** Texts that can never come, with the special token in each. */
  readonly mixed: readonly { readonly stop: string; readonly token: string }[];
}

/** Stop texts by how they are found. A special token is never printed, so as a text it would never match. */
export function sortStops(
  stops: readonly string[],
  tokenizer: Pick<Tokenizer, 'idOf' | 'added' | 'specialIds'> | null,
): SortedStops {
  if (tokenizer === null || stops.length === 0) return { texts: stops, ids: [], mixed: [] };
  const special = [...tokenizer.added].filter(([id]) => tokenizer.specialIds.has(id)).map(([, text]) => text);
  const ids = stops.flatMap((stop) => (special.includes(stop) ? (tokenizer.idOf(stop) ?? []) : []));
  const texts = stops.filter((stop) => !special.includes(stop));
  const mixed = texts.flatMap((stop) => {
    const token = special.find((one) => stop.includes(one));
    return token === undefined ? [] : [{ stop, token }];
  });
  return { texts: texts.filter((stop) => !mixed.some((one) => one.stop === stop)), ids, mixed };
}

export interface StopFilter {
  /** emit: text that is safe to show. stopped: a stop string was found; it and all after it is dropped. */
  push(text: string): { emit: string; stopped: boolean };
  /** What was held back because it could have become a stop string; call it when the text ended without one. */
  end(): string;
}

/** A filter that holds back no more than the beginning of a stop string. Empty stop strings are ignored. */
export function stopFilter(stops: readonly string[]): StopFilter {
  const wanted = stops.filter((stop) => stop !== '');
  let held = '';
  let stopped = false;
  return {
    push: (text) => {
      if (stopped) return { emit: '', stopped };
      held += text;
      const found = wanted.map((stop) => held.indexOf(stop)).filter((at) => at >= 0);
      stopped = found.length > 0;
      const safe = stopped ? Math.min(...found) : held.length - heldLength(held, wanted);
      const emit = held.slice(0, safe);
      held = stopped ? '' : held.slice(safe);
      return { emit, stopped };
    },
    end: () => {
      const rest = held;
      held = '';
      return rest;
    },
  };
}

/** Length of the longest end of the text that a stop string begins with. */
function heldLength(text: string, stops: readonly string[]): number {
  const most = Math.min(text.length, Math.max(0, ...stops.map((stop) => stop.length - 1)));
  for (let length = most; length > 0; length--) {
    const end = text.slice(-length);
    if (stops.some((stop) => stop.startsWith(end))) return length;
  }
  return 0;
}
