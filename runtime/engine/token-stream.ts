// The tokens of a reply as they come out of the library, as an iteration that may be left at any time.
import type { Progress } from './bindings.ts';
import { type GenerateResult, generateResult } from './options.ts';

/** Yields the tokens of a reply in batches, as they come. Leaving the loop stops the reply, and waits for its end.
 *  @param begin starts it, and resolves when it has ended; null: it was aborted before */
export async function* tokenStream(
  begin: (onTokens: (tokens: Int32Array) => void) => Promise<Progress | null>,
  stop: () => void,
): AsyncGenerator<number[], GenerateResult> {
  let fresh: number[] = [];
  let ended = false;
  let wake = () => {};
  const done = begin((tokens) => {
    fresh.push(...tokens);
    wake();
  });
  const markEnded = () => {
    ended = true;
    wake();
  };
  done.then(markEnded, markEnded);
  try {
    while (!ended || fresh.length > 0) {
      if (fresh.length > 0) {
        const batch = fresh;
        fresh = [];
        yield batch;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    return generateResult(await done);
  } finally {
    if (!ended) {
      stop();
      await done.catch(() => {});
    }
  }
}
