// Ends a streamed text at a stop string, which may arrive in pieces.

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
