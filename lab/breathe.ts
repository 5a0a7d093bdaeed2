// A pause between two parts of work that keeps the process busy.

/** Lets Ctrl-C in. */
export const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
