// What a journal of an experiment holds, one record a line: the types, and how lines of strangers are read.
import { z } from 'zod';
import { cacheNames, weightNames } from '../codegen/model/formats.ts';
import { journalFormat } from './journal-format.ts';

const count = z.int().nonnegative();
/** Twelve hexadecimal digits of the sources of a kernel, which is what a variant is. */
const id = z.string().regex(/^[0-9a-f]{12}$/);

/** Of `1/4`, or of `1,3/4`, which is what two were merged into. */
export function partsOf(shard: string): { readonly parts: readonly number[]; readonly of: number } {
  const [parts, of] = shard.split('/');
  return { parts: parts!.split(',').map(Number), of: Number(of) };
}

function hasParts(shard: string): boolean {
  const { parts, of } = partsOf(shard);
  return Number.isSafeInteger(of) && parts.every((part) => part >= 1 && part <= of);
}

/** The first line: what must agree for two journals to be of one experiment. */
const headerSchema = z.strictObject({
  kind: z.literal('journal'),
  format: z.literal(journalFormat),
  /** Version of the package. */
  version: z.string(),
  command: z.enum(['explore', 'ablate']),
  model: z.string(),
  /** `checkpoint`, or `random, seed 0`. */
  weights: z.string(),
  /** Of a file of logits that was named, twelve digits of its hash: by another a variant may be right, or wrong. */
  golden: id.optional(),
  /** What the matrices and the KV cache were made into, where that was asked for. */
  formats: z
    .strictObject({ weights: z.enum(weightNames).optional(), cache: z.enum(cacheNames).optional() })
    .optional(),
  target: z.string(),
  /** All of it where it is not the listed one of its name, as `parseTarget` takes it. */
  ownTarget: z.looseObject({ name: z.string() }).optional(),
  /** Of a CPU, where that was asked for. */
  threads: count.optional(),
  /** ONELAUNCH_POLL_CYCLES, where it stood in the place of the target's. */
  pollCycles: z.string().optional(),
  /** The incumbent: its name and its kernel. */
  plan: z.string(),
  base: id,
  /** What is varied, `key=value,...` each; plans that are named stand as `plan=NAME`. */
  vary: z.array(z.string()),
  strategy: z.enum(['grid', 'random', 'halving']),
  /** Of `random`: how many variants, and which. */
  samples: count.nullable(),
  seed: count,
  /** A variant that is predicted to be so many times slower than the best is not built; null: all are. */
  prune: z.number().nullable(),
  /** Tokens in the KV cache when the first one is timed. */
  positions: z.array(count).min(1),
  /** Timed tokens of a reply. */
  tokens: count,
  rounds: count,
  /** Which part of the variants, `1/4`, or parts, `1,3/4`, where not all were merged; null: all. */
  shard: z
    .string()
    .regex(/^\d+(,\d+)*\/\d+$/)
    .refine(hasParts, { error: ({ input }) => `${input} names a part that there is not` })
    .nullable(),
});

/** State of the machine at that time: MachineState of lab/measure.ts. */
const machine = z.looseObject({ kind: z.enum(['cpu', 'cuda']) });

/** The command begins to build, or to time. Rounds of different runs are never paired. */
const runSchema = z.strictObject({
  kind: z.literal('run'),
  /** ISO 8601. */
  date: z.string(),
  /** What the engines run on, in words; null: it begins to build. */
  device: z.string().nullable(),
  cpu: z.string(),
  machine,
  /** Of the checkpoint that variants are verified and timed with, twelve digits of its hash; not there for random weights, and where neither is done. */
  weights: id.optional(),
  /** By which kernels are built, or those that are timed were; not there where that is not known yet. */
  compiler: z.string().optional(),
});

export type RunRecord = z.infer<typeof runSchema>;

/** A plan that is another than those before it. */
const variantSchema = z.strictObject({
  kind: z.literal('variant'),
  id,
  /** What differs from the base, such as `cooperative+prefetch=2`; the base has its plan's name. */
  label: z.string(),
  /** The same as data: option, op or stage -> value, as --vary takes it. Empty for the base and for plans that are named. */
  edits: z.record(z.string(), z.string()),
  /** The plan without its functions: `parsePlan` makes it again. */
  plan: z.looseObject({ name: z.string() }),
  /** Labels of other combinations that print the same sources. */
  alike: z.array(z.string()),
  /** Tokens a second, for each position of the header; null where nothing is predicted. */
  predicted: z.array(z.number().nullable()),
  /** What the prediction rests on and nobody has measured: where this is not empty, nothing is pruned by it. */
  unmeasured: z.array(z.string()),
  /** Why it is not built. */
  pruned: z.string().nullable(),
});

const builtSchema = z.strictObject({
  kind: z.literal('built'),
  id,
  /** Of compilers; 0: it was built before. */
  seconds: z.number(),
  /** Of each kernel of a GPU. */
  resources: z.array(z.strictObject({ name: z.string(), registers: count, spillBytes: count })),
  /** What the compiler said where it refused. */
  problem: z.string().nullable(),
  /** The system ended the compiler: whoever goes on with the journal tries again. */
  killed: z.literal(true).optional(),
});

const verifiedSchema = z.strictObject({
  kind: z.literal('verified'),
  id,
  ok: z.boolean(),
  /** What it was compared with. */
  source: z.string(),
  /** Greatest difference of a logit, and the greatest allowed; null where it could not be run. */
  worst: z.number().nullable(),
  allowed: z.number().nullable(),
  /** What is wrong, where something is. */
  problem: z.string().nullable(),
});

/** One reply. Those of equal rung, group and round of a run were made in turns, the incumbent among them. */
const timedSchema = z.strictObject({
  kind: z.literal('timed'),
  id,
  /** 0 first; later rungs are of those that were best. */
  rung: count,
  group: count,
  round: count,
  position: count,
  /** Its turn among those of the round, from 0. */
  order: count,
  tokensPerSecond: z.number().positive(),
  /** See tokensHash of lab/measure.ts. */
  tokensHash: z.string(),
});

const doneSchema = z.strictObject({
  kind: z.literal('done'),
  /** `built`: only that was asked for; `budget`: the time was over. */
  why: z.enum(['timed', 'built', 'budget']),
  /** Since the command began. */
  seconds: z.number(),
  machine,
});

export const recordSchema = z.discriminatedUnion('kind', [
  headerSchema,
  runSchema,
  variantSchema,
  builtSchema,
  verifiedSchema,
  timedSchema,
  doneSchema,
]);

export type JournalHeader = z.infer<typeof headerSchema>;
export type VariantRecord = z.infer<typeof variantSchema>;
export type BuiltRecord = z.infer<typeof builtSchema>;
export type VerifiedRecord = z.infer<typeof verifiedSchema>;
export type TimedRecord = z.infer<typeof timedSchema>;
/** What stands below the header. */
export type JournalRecord = Exclude<z.infer<typeof recordSchema>, JournalHeader>;

/** What is known of a header that was written by a version of another format. */
const otherHeaderSchema = z.looseObject({
  kind: z.literal('journal'),
  format: z.int().refine((format) => format !== journalFormat),
  version: z.string(),
});

export const isOfOtherFormat = (value: unknown): value is z.infer<typeof otherHeaderSchema> =>
  otherHeaderSchema.safeParse(value).success;
