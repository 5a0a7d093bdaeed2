// The record of one generated library: the only file that the generator and the runtime share.
import { z } from 'zod';

const dtype = z.enum(['bf16', 'fp16', 'fp32']);
/** Of matrices; those behind the dtypes are blocks of 32 numbers with an fp16 scale, of int4-asym with a minimum, too. */
const format = z.enum([...dtype.options, 'int8', 'int4', 'int4-asym', 'fp8']);
const count = z.int().positive();

const dims = z.strictObject({
  name: z.string(),
  family: z.enum(['qwen3', 'qwen2', 'llama', 'mistral', 'smollm3', 'phi3', 'granite']),
  dtype,
  /** Where matrices are not of this dtype. */
  weights: z
    .strictObject({
      layers: format,
      qkv: format.optional(),
      down: format.optional(),
      embedding: format,
      head: format,
    })
    .optional(),
  /** Where the KV cache is not of this dtype. */
  cache: z.enum(['int8']).optional(),
  layers: count,
  hidden: count,
  ffn: count,
  qHeads: count,
  kvHeads: count,
  headDim: count,
  /** Where it is not the whole head. */
  rotated: count.optional(),
  factors: z.strictObject({ branch: z.number(), scores: z.number(), logits: z.number() }).optional(),
  vocab: count,
  maxPositions: count,
  normEps: z.number(),
  ropeTheta: z.number(),
  ropeScaling: z
    .discriminatedUnion('type', [
      z.strictObject({ type: z.literal('linear'), factor: z.number() }),
      z.strictObject({
        type: z.literal('llama3'),
        factor: z.number(),
        lowFreqFactor: z.number(),
        highFreqFactor: z.number(),
        originalPositions: count,
      }),
      z.strictObject({
        type: z.literal('yarn'),
        factor: z.number(),
        originalPositions: count,
        betaFast: z.number(),
        betaSlow: z.number(),
        attention: z.number(),
      }),
      z.strictObject({
        type: z.literal('longrope'),
        shortFactors: z.array(z.number()).readonly(),
        longFactors: z.array(z.number()).readonly(),
        originalPositions: count,
        attention: z.number(),
      }),
    ])
    .nullable(),
  qkNorm: z.boolean(),
  qkvBias: z.boolean(),
  tiedHead: z.boolean(),
  kinds: z
    .array(z.strictObject({ name: z.string(), window: count.nullable(), rope: z.boolean() }))
    .readonly(),
  pattern: z.array(z.string()).readonly(),
});

/** One tensor of the checkpoint and the slot of the packed weights it fills. */
const slot = z.strictObject({
  /** Hugging Face name, such as model.layers.0.self_attn.q_proj.weight. */
  tensor: z.string(),
  /** [rows, columns]; a vector is [1, columns]. */
  shape: z.tuple([count, count]),
  /** First byte in the packed weights. */
  offset: z.int().nonnegative(),
  /** Elements from one packed row to the next row of the same tensor. */
  stride: count,
  /** Type in the packed weights: the format of a matrix; vectors are fp32. */
  dtype: format,
});

/** Raised with every change of what is below. */
export const manifestFormat = 3;

export const manifestSchema = z.strictObject({
  format: z.literal(manifestFormat),
  abi: z.int(),
  /** Hash of everything the sources depend on. */
  hash: z.string(),
  /** generated/ folder name: <model>-<target>-<plan>-<hash>. */
  name: z.string(),
  model: z.string(),
  target: z.string(),
  /** Kind of library: which toolchain made it and what it runs on. */
  kind: z.enum(['cpu', 'cuda']),
  plan: z.string(),
  /** The plan of prompts; null: they go through passes of the other. */
  promptPlan: z.string().nullable(),
  dims,
  passTokens: count,
  /** Most tokens of a launch of the plan of prompts; 0 without one. */
  promptTokens: z.int().nonnegative(),
  /** Roundings of activations to the weights' type, besides those of K and V: in each layer, and once. Bits of inputs of rows in blocks, if not 16. */
  roundings: z.strictObject({
    perLayer: z.int().nonnegative(),
    once: z.int().nonnegative(),
    inputBits: z.literal(8).optional(),
  }),
  /** File name of the shared library, beside the manifest. */
  library: z.string(),
  /** Size and SHA-256 of the library: a damaged one must not be opened. */
  libraryBytes: count,
  librarySha256: z.string(),
  /** Instruction sets that the library of a CPU has code for, as codegen/build/cpu-paths.ts names them; none on a GPU. */
  paths: z.array(z.string()),
  weightBytes: count,
  slots: z.array(slot),
  /** Bytes read by one decode pass: weights once, and KV per position of context. */
  bytes: z.strictObject({ weights: count, kvPerPosition: count }),
  /** At which the target reads these weights [GB/s], from its memory or its cache, where known: what a share of bandwidth refers to. */
  bandwidth: z.number().nullable(),
  /** Tools and how long they took [ms]. */
  build: z.strictObject({
    compiler: z.string(),
    flags: z.array(z.string()),
    /** Hash of the sources and of all flags: what is known of the library without its compiler. */
    recipe: z.string(),
    millis: z.number(),
    /** Registers of each CUDA kernel, and bytes that a thread stores for want of more. */
    resources: z.array(z.strictObject({ name: z.string(), registers: z.int(), spillBytes: z.int() })),
  }),
});

/** What a built library says of itself, in manifest.json: sizes in elements unless they are called bytes. */
export type Manifest = z.infer<typeof manifestSchema>;
export type Slot = z.infer<typeof slot>;
