// Passes of several sequences: a profile of those in which all of them make a token.
import { OnelaunchError } from '../../errors.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import type { TrackEvent } from '../../runtime/engine/profile-events.ts';
import { fillSequences } from '../batch.ts';
import { replyRoom, timedTogether } from '../together.ts';
import { type Control, inTurns, noRoom, type Pair, type Profile, type Work, wholePasses } from './record.ts';

/** Positions of the passes that all sequences share: [from, end). */
interface Shared {
  readonly from: number;
  readonly end: number;
}

/** Tokens that are timed, where `tokens` passes of all are wanted: each that joins has fewer of them, and so has who is looked at late. */
const timedTokens = (sequences: number, tokens: number): number => tokens + 2 * sequences;

/** Positions that such a profile needs. */
export const rowPositions = ({ position, tokens }: Pick<Work, 'position' | 'tokens'>, sequences: number) =>
  position + 1 + replyRoom(sequences, 1, timedTokens(sequences, tokens));

/** Replies of so many sequences that begin at `position`. Their tokens are not compared: on a GPU the order of their sums depends on who shares which pass.
 *  @throws OnelaunchError failed where they shared no pass */
export async function recordRows(
  pair: Pair,
  { sequences, ...work }: Work & { readonly sequences: number },
  control: Control,
): Promise<Profile> {
  const { position, tokens } = work;
  const timed = timedTokens(sequences, tokens);
  // Of the profiled run that was the last.
  let shared: Shared = { from: 0, end: 0 };
  const once = async (engine: Engine, begins: () => void) => {
    engine.reset(0); // its own sequence gives way
    const filled = await fillSequences(engine, sequences, position, control.signal);
    begins();
    try {
      const replies = filled.replies(replyRoom(sequences, 1, timed));
      const { seconds, before, joined } = await timedTogether(replies, timed, 'wall');
      // Whichever of them stands first in a pass: at these positions none was missing.
      const from = position + Math.max(...joined);
      if (engine === pair.profiled)
        shared = { from, end: Math.min(from + tokens, position + Math.min(...before) + timed) };
      return { millis: (1000 * seconds * tokens) / timed, hash: null };
    } finally {
      await filled.close();
    }
  };
  const whole = { ...work, tokens: sequences * tokens };
  const profile = await inTurns(pair, whole, control, once);
  const { from, end } = shared;
  const within = (event: TrackEvent) => event.position >= from && event.position < end;
  const events = wholePasses(profile).filter(within);
  if (events.length === 0) {
    if (profile.events.some(within)) throw noRoom(profile);
    throw new OnelaunchError('failed', `${sequences} sequences shared no pass: each joined too late`, {
      hint: 'ask for more --tokens',
    });
  }
  return { ...profile, ...work, launch: null, sequences, events };
}
