// The choices of a simulator, the same for the same seed.

/** Numbers in [0, n), the same for the same seed: mulberry32. */
export function chooser(seed: number): (n: number) => number {
  let random = seed;
  return (n) => {
    random = (random + 0x6d2b79f5) | 0;
    let t = Math.imul(random ^ (random >>> 15), 1 | random);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}
