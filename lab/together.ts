// Replies of several sequences at once: how fast all of them go, once each has begun.

/** The clock of figures: what passes, or what the process computes for. A machine that others use has only the second. */
export const clocks = ['wall', 'processor'] as const;
export type Clock = (typeof clocks)[number];

/** Seconds of this process by a clock, from anywhere. */
export function secondsBy(clock: Clock): number {
  if (clock === 'wall') return performance.now() / 1000;
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Room that each reply needs behind its prompt: those that begin first go on while prompts of others are taken in, a chunk of 64 at a time at least. */
export const replyRoom = (sequences: number, prompt: number, tokens: number): number =>
  2 * tokens + sequences * (Math.ceil(prompt / 64) + 1);

/** Seconds from where all replies have begun to where each has made `tokens` more, those [sequences * tokens], how many each had made before,
 *  and with its first ones behind that: all passes that are not yet among them are shared by all [sequences].
 *  @throws Error where a reply ends before */
export async function timedTogether(
  replies: readonly AsyncIterator<readonly number[]>[],
  tokens: number,
  clock: Clock,
): Promise<{
  readonly seconds: number;
  readonly ids: readonly number[];
  readonly before: readonly number[];
  readonly joined: readonly number[];
}> {
  const made = replies.map(() => [] as number[]);
  const before = replies.map(() => 0);
  const joined = replies.map(() => 0);
  let left = replies.length;
  let begun = Number.NaN;
  let done = Number.NaN;
  let isOver = false;
  const drawn = async (reply: AsyncIterator<readonly number[]>, index: number) => {
    const own = made[index]!;
    let isFirst = true;
    let isFull = false;
    while (!isOver) {
      const next = await reply.next();
      if (isOver) break;
      if (next.done) throw new Error(`reply ${index} ended before the others were timed`);
      // Before all have begun nothing counts.
      if (Number.isNaN(begun)) {
        before[index]! += next.value.length;
        if (isFirst && --left === 0) {
          begun = secondsBy(clock);
          left = replies.length;
        }
        isFirst = false;
        continue;
      }
      if (own.length === 0) joined[index] = before[index]! + next.value.length;
      own.push(...next.value);
      if (own.length >= tokens && !isFull) {
        isFull = true;
        if (--left === 0) {
          done = secondsBy(clock);
          isOver = true;
        }
      }
    }
  };
  const ended = replies.map(async (reply, index) => {
    try {
      await drawn(reply, index);
    } finally {
      // The others go on for nobody.
      isOver = true;
      await reply.return?.();
    }
  });
  await Promise.all(ended);
  return { seconds: done - begun, ids: made.flatMap((own) => own.slice(0, tokens)), before, joined };
}
