// Records a profile: the same tokens by the library that runs and by the one that writes down when, in turns.
import { OnelaunchError } from '../../errors.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import type { TrackEvent } from '../../runtime/engine/profile-events.ts';
import { wholeReply } from '../decode.ts';
import { promptOf, type Spread, spreadOf, tokensHash } from '../measure.ts';

export interface Work {
  /** Tokens in the KV cache when the first one is profiled. */
  readonly position: number;
  /** Profiled tokens. */
  readonly tokens: number;
  /** Runs of each library. */
  readonly runs: number;
}

/** Which launch of a prompt, from 1 on, of how many. */
export interface Launch {
  readonly number: number;
  readonly count: number;
}

export interface Profile extends Work {
  readonly kernel: string;
  readonly device: string;
  /** Whose tokens are made together, one of each in a pass. */
  readonly sequences: number;
  /** The launch whose tokens are profiled, together; null: tokens that are made one by one. */
  readonly launch: Launch | null;
  /** Of the last run, its decoded tokens only, or that launch. */
  readonly events: readonly TrackEvent[];
  readonly missed: number;
  /** [tok/s] */
  readonly overhead: {
    readonly without: Spread;
    readonly with: Spread;
    /** Time while it is profiled / as it runs, of the same run. */
    readonly ratio: Spread;
  };
}

/** The two libraries of one kernel, with the same weights. */
export interface Pair {
  readonly kernel: string;
  readonly plain: Engine;
  readonly profiled: Engine;
}

export interface Control {
  readonly signal: AbortSignal;
  readonly onRun: (run: number) => void;
}

/** Tokens that are made one by one. @throws OnelaunchError failed when the two make different tokens */
export async function recordProfile(pair: Pair, work: Work, control: Control): Promise<Profile> {
  const profile = await inTurns(pair, work, control, (engine, begins) =>
    decode(engine, work, { signal: control.signal, onPrompt: begins }),
  );
  // The pass at `position` also feeds the prompt's last token, in a launch of its own.
  const events = wholePasses(profile).filter((event) => event.position > work.position);
  if (events.length === 0) throw noRoom(profile);
  return { ...profile, ...work, launch: null, sequences: 1, events };
}

/** One launch of a prompt, of `tokens` behind `position` others. @throws OnelaunchError failed when the two go on differently behind it */
export async function recordLaunch(
  pair: Pair,
  { launch, ...work }: Work & { readonly launch: Launch },
  control: Control,
): Promise<Profile> {
  const profile = await inTurns(pair, work, control, (engine, begins) =>
    feed(engine, work, { signal: control.signal, onPrompt: begins }),
  );
  // Passes of decoding have tracks of other roles.
  const events = profile.events.filter((event) => event.role === 'block' && event.position === work.position);
  return { ...profile, ...work, launch, sequences: 1, events };
}

/** The events of passes that all tracks have to their end: a track that is full has nothing of what comes after, and others are full elsewhere.
 *  Publishers have a part in some passes only. */
export function wholePasses({ events, missed }: Pick<Profile, 'events' | 'missed'>): readonly TrackEvent[] {
  if (missed === 0) return events;
  const last = new Map<string, number>();
  for (const { block, role, position } of events) {
    if (role === 'publisher') continue;
    const track = `${block} ${role}`;
    last.set(track, Math.max(last.get(track) ?? 0, position));
  }
  const end = [...last.values()].reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  return events.filter(({ position }) => position < end);
}

export const noRoom = ({ missed }: Pick<Profile, 'missed'>): OnelaunchError =>
  new OnelaunchError('failed', `no pass found room: ${missed} events are missing`, {
    hint: 'a smaller model, or fewer --sequences, makes fewer events in a pass',
  });

/** What is timed, after it has told that it begins; the hash of what it made, null where that need not be the same. */
type Run = (
  engine: Engine,
  begins: () => void,
) => Promise<{ readonly millis: number; readonly hash: string | null }>;

/** One run is thrown away. */
export async function inTurns(
  { kernel, plain, profiled }: Pair,
  work: Work,
  { onRun }: Control,
  once: Run,
): Promise<Pick<Profile, 'kernel' | 'device' | 'events' | 'missed' | 'overhead'>> {
  const [without, with_, ratios]: [number[], number[], number[]] = [[], [], []];
  let recorded = profiled.takeProfile();
  for (let run = -1; run < work.runs; run++) {
    onRun(run);
    // Neither is always the first.
    const order = run % 2 === 0 ? [plain, profiled] : [profiled, plain];
    const made = new Map<Engine, Awaited<ReturnType<Run>>>();
    for (const engine of order) {
      // The events of what comes before would fill the room that there is.
      const begins = () => {
        if (engine === profiled) profiled.takeProfile();
      };
      made.set(engine, await once(engine, begins));
    }
    recorded = profiled.takeProfile();
    const [a, b] = [made.get(plain)!, made.get(profiled)!];
    if (a.hash !== b.hash) {
      throw new OnelaunchError('failed', 'the profiled library made other tokens than the one that runs', {
        hint: 'a profile of it would say nothing: see what gen verify says of the plan',
      });
    }
    if (run < 0) continue;
    without.push((1000 * work.tokens) / a.millis);
    with_.push((1000 * work.tokens) / b.millis);
    ratios.push(b.millis / a.millis);
  }
  return {
    ...{ kernel, device: plain.device, events: recorded.events, missed: recorded.missed },
    overhead: {
      without: spreadOf(without),
      with: spreadOf(with_),
      ratio: spreadOf(ratios),
    },
  };
}

/** The prompt, then a token more than are wanted: the first one ends the prompt. */
async function decode(
  engine: Engine,
  { position, tokens }: Work,
  { signal, onPrompt }: { readonly signal: AbortSignal; readonly onPrompt: () => void },
): ReturnType<Run> {
  engine.reset(0);
  const prompt = promptOf(position + 1, engine.vocab);
  if (position > 0) await engine.score(prompt.slice(0, position), position, { signal });
  onPrompt();
  const { made, decodeMs } = await wholeReply(engine, prompt.slice(position), tokens + 1, signal);
  return { millis: decodeMs, hash: tokensHash(made) };
}

/** Tokens that tell whether two libraries have taken in the same. */
export const checkedTokens = 8;

/** What comes before the launch, the launch, and a reply behind it. */
async function feed(
  engine: Engine,
  { position, tokens }: Work,
  { signal, onPrompt }: { readonly signal: AbortSignal; readonly onPrompt: () => void },
): ReturnType<Run> {
  engine.reset(0);
  const end = position + tokens;
  const prompt = promptOf(end + 1, engine.vocab);
  const take = (ids: readonly number[]) => engine.scoreRows(ids, ids.length, () => {}, { signal });
  if (position > 0) await take(prompt.slice(0, position));
  onPrompt();
  const started = performance.now();
  await take(prompt.slice(position, end));
  const millis = performance.now() - started;
  const { made } = await wholeReply(engine, prompt.slice(end), checkedTokens, signal);
  return { millis, hash: tokensHash(made) };
}

/** What profiling costs, in words: nothing that is seen where the runs fall on both sides of 1. */
export function costOf({ ratio }: Profile['overhead']): string {
  const percent = (value: number) => `${(100 * (value - 1)).toFixed(1)} %`;
  const range = `${percent(ratio.least)} to ${percent(ratio.most)}`;
  return ratio.least <= 1 && ratio.most >= 1
    ? `less than runs differ (${range})`
    : `${percent(ratio.median)} (${range})`;
}
