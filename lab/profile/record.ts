// Records a profile: the same tokens by the library that runs and by the one that writes down when, in turns.
import { OnelaunchError } from '../../errors.ts';
import type { Engine } from '../../runtime/engine.ts';
import type { TrackEvent } from '../../runtime/profile-events.ts';
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

export interface Profile extends Work {
  readonly kernel: string;
  readonly device: string;
  /** Of the last run, its decoded tokens only. */
  readonly events: readonly TrackEvent[];
  readonly missed: number;
  /** [tok/s] */
  readonly overhead: {
    readonly without: Spread;
    readonly with: Spread;
    /** Time of a token while it is profiled / as it runs, of the same run. */
    readonly ratio: Spread;
  };
}

/** The two libraries of one kernel, with the same weights. */
export interface Pair {
  readonly kernel: string;
  readonly plain: Engine;
  readonly profiled: Engine;
}

/** One run is thrown away. @throws OnelaunchError failed when the two make different tokens */
export async function recordProfile(
  { kernel, plain, profiled }: Pair,
  work: Work,
  { signal, onRun }: { readonly signal: AbortSignal; readonly onRun: (run: number) => void },
): Promise<Profile> {
  const [without, with_, ratios]: [number[], number[], number[]] = [[], [], []];
  let recorded = profiled.takeProfile();
  for (let run = -1; run < work.runs; run++) {
    onRun(run);
    // Neither is always the first.
    const order = run % 2 === 0 ? [plain, profiled] : [profiled, plain];
    const made = new Map<Engine, Timed>();
    for (const engine of order) {
      // The events of the prompt would fill the room that there is.
      const onPrompt = () => {
        if (engine === profiled) profiled.takeProfile();
      };
      made.set(engine, await decode(engine, work, { signal, onPrompt }));
    }
    recorded = profiled.takeProfile();
    const [a, b] = [made.get(plain)!, made.get(profiled)!];
    if (a.hash !== b.hash) {
      throw new OnelaunchError('failed', 'the profiled library made other tokens than the one that runs', {
        hint: 'a profile of it would say nothing: see what gen verify says of the plan',
      });
    }
    if (run < 0) continue;
    without.push((1000 * work.tokens) / a.decodeMs);
    with_.push((1000 * work.tokens) / b.decodeMs);
    ratios.push(b.decodeMs / a.decodeMs);
  }
  // The pass at `position` also feeds the prompt's last token, in a launch of its own.
  const events = recorded.events.filter((event) => event.position > work.position);
  return {
    ...{ ...work, kernel, device: plain.device, events, missed: recorded.missed },
    overhead: {
      without: spreadOf(without),
      with: spreadOf(with_),
      ratio: spreadOf(ratios),
    },
  };
}

interface Timed {
  readonly decodeMs: number;
  readonly hash: string;
}

/** The prompt, then a token more than are wanted: the first one ends the prompt. */
async function decode(
  engine: Engine,
  { position, tokens }: Work,
  { signal, onPrompt }: { readonly signal: AbortSignal; readonly onPrompt: () => void },
): Promise<Timed> {
  engine.reset(0);
  const prompt = promptOf(position + 1, engine.vocab);
  if (position > 0) await engine.score(prompt.slice(0, position), position, { signal });
  onPrompt();
  const { made, decodeMs } = await wholeReply(engine, prompt.slice(position), tokens + 1, signal);
  return { decodeMs, hash: tokensHash(made) };
}

/** What profiling costs, in words: nothing that is seen where the runs fall on both sides of 1. */
export function costOf({ ratio }: Profile['overhead']): string {
  const percent = (value: number) => `${(100 * (value - 1)).toFixed(1)} %`;
  const range = `${percent(ratio.least)} to ${percent(ratio.most)}`;
  return ratio.least <= 1 && ratio.most >= 1
    ? `less than runs differ (${range})`
    : `${percent(ratio.median)} (${range})`;
}
