// A reply, read to its end.
import type { GenerateResult } from '../../runtime/engine/options.ts';

/** All tokens of a reply, and how it ended. */
export async function read(reply: AsyncGenerator<number[], GenerateResult>) {
  const ids: number[] = [];
  for (;;) {
    const step = await reply.next();
    if (step.done) return { ids, ...step.value };
    ids.push(...step.value);
  }
}
