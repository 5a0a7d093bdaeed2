// What --model means: a known name, a model of the Hugging Face Hub that is in its cache, a directory, or a GGUF file.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { packageRoot } from '../codegen/build/package-root.ts';
import type { ModelDims } from '../codegen/model/dims.ts';
import { readModel } from '../codegen/model/read-config.ts';
import { didYouMean } from '../codegen/plan/did-you-mean.ts';
import { OnelaunchError } from '../errors.ts';
import { type CachedModel, cachedAt, cachedModels, findCached } from '../hub/cache.ts';
import { hubIdIn, isHubId } from '../hub/id.ts';
import { checkName } from './check-name.ts';
import { hubIds, models } from './models.ts';

/** What a name stands for. */
export interface ResolvedModel {
  readonly dims: ModelDims;
  /** Where weights and tokenizer are, a folder or a GGUF file; null for a known name without files here. */
  readonly directory: string | null;
  /** ORG/NAME, where it is known. */
  readonly hubId: string | null;
  /** What the user should know of its config.json, one line each. */
  readonly notes: readonly string[];
}

/** Names of the models that are known without their files. */
export const modelNames = (): string[] => models.map((model) => model.name);

/** A known name; else a GGUF file or a directory, of a model or models--ORG--NAME of the Hub cache; else ORG/NAME, or a known name in another
 *  letter case: the Hub does not tell cases apart either.
 *  @throws OnelaunchError: environment for a model of the Hub that is not here, else usage */
export function resolveModel(name: string): ResolvedModel {
  checkName(name, 'model');
  const exact = models.find((model) => model.name === name);
  if (exact) return resolveKnown(exact);
  if (!existsSync(name)) {
    const known = knownModel(name);
    if (known) return resolveKnown(known);
    if (/\.gguf$/i.test(name)) throw noFile(name);
    if (isHubId(name)) return ofSnapshot(findCached(name), name);
    const meant = hubIdIn(name);
    if (meant !== null) throw notAlone(name, meant);
    if (!/[/\\]|^\.{1,2}$/.test(name)) throw unknownModel(name);
  }
  const cached = cachedAt(name);
  if (cached) return ofSnapshot(cached, cached.id);
  const directory = resolve(name);
  return { ...readModel(directory), directory, hubId: null };
}

function knownModel(name: string): ModelDims | undefined {
  const lower = name.toLowerCase();
  return models.find((model) => model.name === lower || hubIds.get(model.name)?.toLowerCase() === lower);
}

/** Bundled, else in the Hub cache, else dims alone. Those of cached weights are in their own config.json. */
function resolveKnown(dims: ModelDims): ResolvedModel {
  const hubId = hubIds.get(dims.name) ?? null;
  const bundled = join(packageRoot(), 'models', dims.name);
  if (existsSync(join(bundled, 'config.json'))) return { dims, directory: bundled, hubId, notes: [] };
  const cached = hubId === null ? null : findCached(hubId);
  const directory = cached?.missing === null ? cached.snapshot : null;
  return { ...(directory === null ? { dims, notes: [] } : readModel(directory)), directory, hubId };
}

function ofSnapshot(cached: CachedModel | null, id: string): ResolvedModel {
  if (cached === null) {
    throw new OnelaunchError('environment', `${id} is neither a folder nor in the Hub cache`, {
      hint: `gen pull ${id} fetches it; gen models lists what is here`,
    });
  }
  const { snapshot: directory, missing } = cached;
  if (directory === null || missing !== null) {
    throw new OnelaunchError('environment', `${cached.id} is not complete in the Hub cache: no ${missing}`, {
      hint: `gen pull ${cached.id} fetches the rest`,
    });
  }
  return { ...readModel(directory), directory, hubId: cached.id };
}

/** Models of the Hub whose names are known, or that are in the cache. */
export const knownIds = (): string[] => [
  ...new Set([...hubIds.values(), ...cachedModels().map(({ id }) => id)]),
];

const noFile = (name: string) =>
  new OnelaunchError('usage', `no file ${name}`, { hint: 'Give the path of a GGUF file that is here.' });

const notAlone = (name: string, id: string) =>
  new OnelaunchError('usage', `${name} is neither a folder nor ORG/NAME of the Hub`, {
    hint: `did you mean '${id}'? gen pull --revision fetches another revision than main; a GGUF file is given by its path`,
  });

function unknownModel(name: string): OnelaunchError {
  const ids = knownIds();
  const lower = name.toLowerCase();
  // The name alone, without who made it.
  const id = ids.find((one) => one.toLowerCase().endsWith(`/${lower}`));
  const near = id === undefined ? didYouMean(name, [...modelNames(), ...ids]) : `did you mean '${id}'? `;
  return new OnelaunchError('usage', `unknown model '${name}'`, {
    hint: `${near}known: ${modelNames().join(', ')}; or ORG/NAME of the Hugging Face Hub, or the directory or GGUF file of a model`,
  });
}
