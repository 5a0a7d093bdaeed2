// A pause between two parts of work that keeps the process busy.

/** Lets Ctrl-C in: a turn of the event loop that has begun may have looked for signals before, the next one looks again.
 *  @throws the reason of a signal that is aborted then */
export async function breathe(signal?: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  signal?.throwIfAborted();
}
