// Figures of one kernel, as gen bench, verify and quality write them into bench/reports.
import { z } from 'zod';
import type { BenchFigures, KernelFigures, QualityFigures, VerifyFigures } from './input.ts';

export const range = z.looseObject({ median: z.number(), least: z.number(), most: z.number() });

const measured = { hash: z.string(), date: z.string(), device: z.string().default('unknown') };
const machine = z.looseObject({
  kind: z.string(),
  smClock: z.number().nullish(),
  memoryClock: z.number().nullish(),
  throttleReasons: z.string().nullish(),
  celsius: z.number().nullish(),
  driver: z.string().nullish(),
  load1: z.number().nullish(),
});

const bench = z.looseObject({
  ...measured,
  weights: z.string(),
  tokens: z.number(),
  runs: z.number(),
  decode: z.array(
    z.looseObject({
      position: z.number(),
      tokensPerSecond: range,
      gigabytesPerSecond: z.number(),
      share: z.number().nullable(),
      tokensPerJoule: z.number().nullish(),
      drafts: z.looseObject({ plainTokensPerSecond: range }).optional(),
    }),
  ),
  prefill: z.looseObject({ tokens: z.number(), tokensPerSecond: range }).nullable(),
  machine: z.looseObject({ cpu: z.string(), before: machine, after: machine }),
});

const verify = z.looseObject({
  ...measured,
  ok: z.boolean(),
  source: z.string(),
  worstLogitError: z.number(),
  tolerance: z.looseObject({ logit: z.number() }),
});

const quality = z.looseObject({
  ...measured,
  texts: z.array(
    z.looseObject({
      text: z.string(),
      tokens: z.number(),
      kl: z.looseObject({ mean: z.number() }),
      top1: z.looseObject({ equal: z.number() }),
      nll: z.looseObject({ ours: z.number(), reference: z.number() }),
    }),
  ),
});

const kernel = z.looseObject({
  ...{ kernel: z.string(), model: z.string(), target: z.string(), plan: z.string() },
  ownTarget: z.looseObject({}).optional(),
  planFile: z.string().optional(),
  dims: z.looseObject({}),
  ...{ bench: bench.optional(), verify: verify.optional(), quality: quality.optional() },
});

/** Null where it is something else. */
export function readKernel(file: string, value: unknown): KernelFigures | null {
  const { data } = kernel.safeParse(value);
  if (!data) return null;
  return {
    ...{
      file,
      kernel: data.kernel,
      name: data.kernel.replace(`${data.model}-`, '').replace(`${data.target}-`, ''),
      model: data.model,
      target: data.target,
      ownTarget: data.ownTarget,
      plan: data.plan,
      planFile: data.planFile ?? null,
      dims: data.dims,
    },
    bench: data.bench ? benchOf(data.bench) : null,
    verify: data.verify ? verifyOf(data.verify) : null,
    quality: data.quality ? qualityOf(data.quality) : [],
  };
}

const benchOf = ({
  hash,
  date,
  device,
  weights,
  tokens,
  runs,
  ...one
}: z.infer<typeof bench>): BenchFigures => ({
  ...{ hash, date, device, weights, tokens, runs, prefill: one.prefill },
  decode: one.decode.map(({ drafts, ...figure }) =>
    // Of the kernel alone: what drafts gain hangs on the text, and no prediction has it.
    drafts
      ? { ...figure, tokensPerSecond: drafts.plainTokensPerSecond, tokensPerJoule: null }
      : { ...figure, tokensPerJoule: figure.tokensPerJoule ?? null },
  ),
  state: stateOf(one.machine),
});

const verifyOf = ({ hash, date, device, ok, source, ...one }: z.infer<typeof verify>): VerifyFigures => ({
  ...{ hash, date, device, ok, source, worst: one.worstLogitError, allowed: one.tolerance.logit },
});

const qualityOf = ({ hash, date, device, texts }: z.infer<typeof quality>): QualityFigures[] =>
  texts.map(({ text, tokens, nll, kl, top1 }) => ({
    ...{ hash, date, device, text, tokens, nll, kl: kl.mean, top1: top1.equal / tokens },
  }));

/** The machine before and after, in words: what is equal is said once. */
function stateOf({ cpu, before, after }: z.infer<typeof bench>['machine']): string {
  const both = (name: string, a: unknown, b: unknown, unit: string) =>
    a === undefined || a === null ? [] : [a === b ? `${name} ${a}${unit}` : `${name} ${a} to ${b}${unit}`];
  const throttled = [before, after].some(({ throttleReasons }) =>
    /[1-9a-f]/.test(throttleReasons?.slice(2) ?? ''),
  );
  return [
    ...(before.kind === 'cuda' ? [] : [cpu]),
    ...both('driver', before.driver, after.driver, ''),
    ...both('SM', before.smClock, after.smClock, ' MHz'),
    ...both('memory', before.memoryClock, after.memoryClock, ' MHz'),
    ...both('', before.celsius, after.celsius, ' °C'),
    ...both('load', before.load1, after.load1, ''),
    ...(before.kind === 'cuda' ? [throttled ? 'THROTTLED' : 'not throttled'] : []),
  ]
    .map((part) => part.trim())
    .join(', ');
}
