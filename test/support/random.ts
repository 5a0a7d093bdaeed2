// Numbers that look random and are the same for the same seed.

/** Gives whole numbers from 0 to below `n`: a linear congruential generator. */
export function wholeNumbers(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}
