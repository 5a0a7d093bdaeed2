// A variant with an open engine: built, loaded, verified.
import { wasKilled } from '../codegen/build/compile-error.ts';
import { BuildError, OnelaunchError } from '../errors.ts';
import { type BuiltKernel, openEngine } from '../load.ts';
import type { CheckedModel } from '../preflight.ts';
import type { Engine } from '../runtime/engine/engine.ts';
import type { Golden } from '../runtime/verify/golden.ts';
import { verify } from '../runtime/verify/verify.ts';
import { buildPlan } from './build-plan.ts';
import type { Candidate } from './enumerate.ts';
import type { BuiltRecord, VerifiedRecord } from './journal-records.ts';
import { engineScorer } from './truth.ts';

export interface EngineInput {
  readonly checked: CheckedModel;
  readonly context: number;
  readonly threads: number | undefined;
  readonly device: number | undefined;
  readonly randomWeights: boolean;
  readonly signal: AbortSignal;
}

/** Compiles a variant, or finds it built: what the compiler refuses is a finding. @throws what has nothing to do with the variant */
export async function builtRecord(
  candidate: Candidate,
  { checked, signal }: Pick<EngineInput, 'checked' | 'signal'>,
  before: boolean,
): Promise<BuiltRecord> {
  const { id } = candidate.record;
  try {
    const { cached, manifest, millis } = await buildPlan(candidate.plan, checked, { signal, before });
    const seconds = cached ? 0 : Math.round(millis) / 1000;
    return { kind: 'built', id, seconds, resources: manifest.build.resources, problem: null };
  } catch (error) {
    const problem = problemOf(error);
    const killed = error instanceof BuildError && wasKilled(error.log) && { killed: true as const };
    return { kind: 'built', id, seconds: 0, resources: [], problem, ...killed };
  }
}

/** What is wrong with the variant. @throws the error, where it is something else: Ctrl-C, a machine without a compiler */
export function problemOf(error: unknown): string {
  if (error instanceof OnelaunchError && error.kind === 'failed') return error.message;
  throw error;
}

/** A variant with its engine. */
export interface Contestant {
  readonly candidate: Candidate;
  readonly engine: Engine;
  /** See Manifest. */
  readonly roundings: BuiltKernel['manifest']['roundings'];
  /** By which its library was built. */
  readonly compiler: string;
}

/** Opens the library of a variant with its weights. The caller closes the engine. */
export async function openVariant(candidate: Candidate, input: EngineInput): Promise<Contestant> {
  const { checked, context, threads, device, randomWeights, signal } = input;
  const built = await buildPlan(candidate.plan, checked, { signal, before: true });
  const random = randomWeights ? { randomWeights: { seed: 0 } } : {};
  const { engine } = await openEngine(built, { context, threads, device, signal, ...random });
  const { roundings, build } = built.manifest;
  return { candidate, engine, roundings, compiler: build.compiler };
}

/** Compares an engine with the golden logits, and says what came of it. */
export async function verifiedRecord(
  { candidate, engine, roundings }: Contestant,
  golden: Golden,
  { checked, signal }: Pick<EngineInput, 'checked' | 'signal'>,
): Promise<VerifiedRecord> {
  const { id } = candidate.record;
  const { dims } = checked;
  const { source } = golden;
  try {
    const options = { dims, dtype: dims.dtype, extraRoundings: roundings };
    const result = await verify(engineScorer(engine, signal), golden, options);
    const problem = result.cases.flatMap(({ problems }) => problems)[0] ?? null;
    const worst = Math.max(...result.cases.map(({ logit }) => logit.error));
    return { kind: 'verified', id, ok: result.ok, source, worst, allowed: result.tolerance.logit, problem };
  } catch (error) {
    signal.throwIfAborted();
    return failedRecord(id, source, problemOf(error));
  }
}

/** A variant that could not be run. */
export const failedRecord = (id: string, source: string, problem: string): VerifiedRecord => ({
  ...{ kind: 'verified', id, ok: false, source, worst: null, allowed: null, problem },
});
