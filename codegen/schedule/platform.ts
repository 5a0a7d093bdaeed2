// What kinds of machine differ in: the one place that knows that a CPU has no shared memory.

/** A kind of target, as traits that passes ask for. */
export interface Platform {
  /** In the manifest: which toolchain made a library and what it runs on. */
  readonly kind: 'cpu' | 'cuda';
  /** The generated file that the compiler reads first, and the header of its scalar types. */
  readonly kernelFile: string;
  readonly typesHeader: string;
  /** How the header of a model declares a function. */
  readonly inlineFunction: string;
  /** One that only the host calls. On a CPU each kernel has its own, which no other instruction set may be linked to. */
  readonly hostFunction: string;
  /** Warps of a block at barriers where a plan does not say; a block of a CPU is one thread, whose phases need no sync. */
  readonly warps: number;
  /** A producer can fill a ring of shared memory while others compute. */
  readonly streams: boolean;
  /** At barriers its library multiplies matrices in blocks, as codegen/model/formats.ts lists them. */
  readonly blockFormats: boolean;
  /** At barriers its library keeps a KV cache whose numbers share scales. */
  readonly cacheFormats: boolean;
  /** Most tokens of a pass at barriers, and what `many` tries, from many to few. */
  readonly mostTokens: number;
  readonly manyTokens: readonly number[];
  /** Folders of templates that are copied where prompts have no kernels of their own, and where to. */
  readonly withoutPrompts: readonly (readonly [folder: string, into: string])[];
}

export const platforms: Readonly<Record<Platform['kind'], Platform>> = {
  cpu: {
    kind: 'cpu',
    kernelFile: 'kernel.cpp',
    typesHeader: 'lib/types.h',
    inlineFunction: 'static inline',
    hostFunction: 'static inline',
    warps: 1,
    streams: false,
    blockFormats: true,
    cacheFormats: true,
    mostTokens: 128,
    manyTokens: [64],
    withoutPrompts: [],
  },
  cuda: {
    kind: 'cuda',
    kernelFile: 'kernel.cu',
    typesHeader: 'lib/types.cuh',
    inlineFunction: '__host__ __device__ inline',
    hostFunction: 'inline',
    warps: 16,
    streams: true,
    blockFormats: false,
    cacheFormats: false,
    mostTokens: 8,
    manyTokens: [8, 4, 2],
    withoutPrompts: [['cuda/no_prompts/host', 'host/']],
  },
};

const numberOf = (arch: string): number => Number(/\d+/.exec(arch)?.[0] ?? 0);

/** Matrix instructions for bf16, and copies into shared memory that go on beside them (sm_80 and later): no kernel is without. */
export const runsKernels = (arch: string): boolean => numberOf(arch) >= 80;
/** The copy engine moves bytes into shared memory by itself (sm_90 and later). */
export const hasBulkCopies = (arch: string): boolean => numberOf(arch) >= 90;
/** Four warps multiply together from shared memory (wgmma, which later architectures have not kept). */
export const hasWarpgroupProducts = (arch: string): boolean => arch === 'sm_90a';
/** Warps give registers to each other (sm_90a, sm_100a). */
export const movesRegisters = (arch: string): boolean => numberOf(arch) >= 90 && arch.endsWith('a');
