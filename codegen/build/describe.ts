// The manifest of a library: what follows from its kernel, and how it was made.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { abiVersion } from '../../abi/abi.ts';
import { type Manifest, manifestFormat } from '../../abi/manifest.ts';
import type { Kernel } from '../kernel.ts';
import { bytesOf } from '../schedule/schedule.ts';
import { bandwidthOf } from '../schedule/target.ts';
import type { Schedule } from '../schemes/index.ts';
import { sha256 } from './cache.ts';
import { multipliesPairs } from './cpu-paths.ts';
import { compilerText, type Recipe, type Tools } from './recipe.ts';
import type { Resources } from './resources.ts';

/** What a manifest says of its kernel: labels, and all that follows from the sources. @param paths of the library: which of them runs here rounds */
export function described({ name, hash, schedule, prompts }: Kernel, paths: readonly string[]) {
  const { dims, target, plan } = schedule;
  const more = multipliesPairs(paths) ? schedule.pairRoundings : { perLayer: 0, once: 0 };
  const bytes = bytesOf(schedule);
  const most = mostRoundings([schedule, ...(prompts ? [prompts.schedule] : [])]);
  return {
    format: manifestFormat,
    abi: abiVersion,
    hash,
    name,
    model: dims.name,
    target: target.name,
    kind: target.kind,
    plan: plan.name,
    promptPlan: prompts?.plan.name ?? null,
    dims,
    passTokens: schedule.passTokens,
    promptTokens: prompts?.schedule.passTokens ?? 0,
    roundings: { ...most, perLayer: most.perLayer + more.perLayer, once: most.once + more.once },
    weightBytes: schedule.packing.bytes,
    slots: schedule.slots.map((slot) => ({
      ...slot,
      shape: [slot.shape[0], slot.shape[1]] as [number, number],
    })),
    bytes,
    bandwidth: bandwidthOf(target, bytes.weights),
  } as const;
}

/** A token goes one way or the other; plans of prompts multiply no inputs of blocks on a CPU. */
const mostRoundings = (schedules: readonly Schedule[]) => ({
  ...schedules[0]!.roundings,
  perLayer: Math.max(...schedules.map(({ roundings }) => roundings.perLayer)),
  once: Math.max(...schedules.map(({ roundings }) => roundings.once)),
});

/** The whole of it. @param made the folder that has library.so, and its CPU paths */
export function manifestOf(
  kernel: Kernel,
  recipe: Recipe,
  tools: Tools,
  made: {
    readonly work: string;
    readonly paths: readonly string[];
    readonly millis: number;
    readonly resources: readonly Resources[];
  },
): Manifest {
  const library = 'library.so';
  const path = join(made.work, library);
  return {
    ...described(kernel, made.paths),
    library,
    libraryBytes: statSync(path).size,
    librarySha256: sha256(path),
    paths: [...made.paths],
    build: {
      compiler: compilerText(recipe.tools, tools),
      flags: [...recipe.flags],
      recipe: recipe.hash,
      millis: made.millis,
      resources: [...made.resources],
    },
  };
}
