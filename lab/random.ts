// Numbers that look random and are the same for the same seed.

/** Numbers from 0 up to but not including 1. Source: Tommy Ettinger's mulberry32. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Whole numbers below `end`, each once, in an order that the seed gives. Draws as many as are asked for. */
export function* shuffled(end: number, seed: number): Generator<number> {
  const next = randomFrom(seed);
  // Fisher and Yates's shuffle, of a list of which only what has moved is written down.
  const moved = new Map<number, number>();
  for (let left = end; left > 0; left--) {
    const at = Math.floor(next() * left);
    const last = moved.get(left - 1) ?? left - 1;
    yield moved.get(at) ?? at;
    moved.set(at, last);
  }
}
