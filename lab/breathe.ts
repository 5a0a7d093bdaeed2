// A pause between two parts of work that keeps the process busy.

/** Lets Ctrl-C in: a turn of the event loop that has begun may have looked for signals before, the next one looks again. */
export const breathe = (): Promise<void> =>
  new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
