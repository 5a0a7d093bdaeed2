// Replies that end when a test says so. Imported before a program, or by a test: a reply at `heldTemperature` says 32 tokens and no
// more until it is let go or stopped, and no token ends it. The engine and all that is around it are those that ship.
import type { TokenIds } from '../../runtime/engine/arguments.ts';
import type { GenerateOptions, GenerateResult } from '../../runtime/engine/options.ts';
import { Sequence } from '../../runtime/engine/sequence.ts';

/** What asks for such a reply; the text is that of temperature 0. */
export const heldTemperature = 1e-4;
/** Some lines at a terminal. */
const heldAt = 32;

/** Node's flags for a program whose replies can be held; SIGUSR2 lets them go. */
export const holding = ['--import', 'tsx', '--import', import.meta.url] as const;

let letGo = () => {};
const goOn = new Promise<void>((resolve) => {
  letGo = resolve;
});
process.on('SIGUSR2', letGo);

const { generate } = Sequence.prototype;
Sequence.prototype.generate = async function* held(
  this: Sequence,
  ids: TokenIds,
  options: GenerateOptions,
): AsyncGenerator<number[], GenerateResult> {
  const { maxTokens, sampling, signal } = options;
  if (sampling?.temperature !== heldTemperature || maxTokens <= heldAt) {
    return yield* generate.call(this, ids, options);
  }
  const endless = { ...options, stopIds: [] };
  const begun = generate.call(this, ids, { ...endless, maxTokens: heldAt });
  let last = -1;
  const watched = async function* () {
    try {
      for (let step = await begun.next(); ; step = await begun.next()) {
        if (step.done) return step.value;
        last = step.value.at(-1)!;
        yield step.value;
      }
    } finally {
      await begun.return({} as GenerateResult);
    }
  };
  const said = yield* watched();
  if (said.finish !== 'length') return said;
  await released(signal);
  if (signal?.aborted) return { ...said, finish: 'abort' };
  return yield* generate.call(this, [last], { ...endless, maxTokens: maxTokens - heldAt });
};

/** Resolves when replies are let go, or this one is stopped; the process lives until then. */
async function released(signal: AbortSignal | undefined): Promise<void> {
  const alive = setInterval(() => {}, 1000);
  const stopped = new Promise<void>((resolve) => {
    if (signal?.aborted) resolve();
    signal?.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.race([goOn, stopped]);
  clearInterval(alive);
}
