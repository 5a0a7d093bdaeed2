/**
 * Names on the command line into models, targets and plans.
 * @module onelaunch/configs
 */
import { accessSync, constants, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { findGpus, type Gpu } from '../codegen/build/gpus.ts';
import { findNvcc } from '../codegen/build/tools.ts';
import { didYouMean } from '../codegen/plan/did-you-mean.ts';
import { PlanError } from '../codegen/plan/issue.ts';
import { parsePlan } from '../codegen/plan/parse-plan.ts';
import { changed, type FusionPlan } from '../codegen/plan/plan.ts';
import type { Target } from '../codegen/schedule/target.ts';
import { OnelaunchError } from '../errors.ts';
import { kindOf } from '../files/plain-file.ts';
import { checkName } from './check-name.ts';
import cooperative from './plans/cooperative.ts';
import prefill, { variants as prefillVariants } from './plans/prefill.ts';
import seed, { variants as seedVariants } from './plans/seed.ts';
import stream, { variants as streamVariants } from './plans/stream.ts';
import unfused from './plans/unfused.ts';
import { readPlan } from './read-plan.ts';
import { parseTarget, readTarget, targetText } from './target-file.ts';
import { targetNamed, targetNames, targets } from './targets.ts';

/** Plans of their own; variants are edits of one, and called after it. */
const bases: readonly FusionPlan[] = [cooperative, stream, unfused, seed];
const plans: readonly FusionPlan[] = [...bases, ...streamVariants, ...seedVariants];
/** What takes in prompts beside a plan that decodes. */
const promptPlans: readonly FusionPlan[] = [prefill, ...prefillVariants];

/** A plan, and edits of it that have names. */
export interface VariedPlan {
  readonly plan: FusionPlan;
  readonly variants: readonly FusionPlan[];
}

export { modelNames, type ResolvedModel, resolveModel } from './resolve-model.ts';
export { targetNames } from './targets.ts';

/** Names of the plans that decode. */
export const planNames = (): string[] => plans.map((plan) => plan.name);
/** Names of the plans for prompts. */
export const promptPlanNames = (): string[] => promptPlans.map((plan) => plan.name);

function unknown(
  kind: string,
  name: string,
  known: readonly string[],
  shown: readonly string[],
  also: string,
): OnelaunchError {
  return new OnelaunchError('usage', `unknown ${kind} '${name}'`, {
    hint: `${didYouMean(name, known)}known: ${shown.join(', ')}${also}`,
  });
}

/** A plan's name, and how many variants it has: their names would fill a screen. */
function withVariants(plan: FusionPlan): string {
  const { name } = plan;
  const count = shippedVariants(plan).length;
  return count === 0 ? name : `${name} (and ${count} variants, ${name}-..., in configs/plans/${name}.ts)`;
}

/** A known target, or the one in a file; `auto` or nothing: the GPU of that ordinal where nvcc is too, else the CPU. */
export function resolveTarget(name = 'auto', gpus: () => readonly Gpu[] = findGpus, device = 0): Target {
  checkName(name, 'target');
  if (name.endsWith('.json')) return readTarget(name);
  if (name !== 'auto') {
    const known = targetNamed(name);
    const names = ['auto', ...targetNames()];
    if (!known)
      throw unknown(
        'target',
        name,
        names,
        names,
        '; or the path of a .json file, as gen calibrate writes it',
      );
    return known;
  }
  const all = gpus();
  const gpu = all[device] ?? all[0];
  return gpu && findNvcc() ? targetOf(gpu) : targetNamed('cpu')!;
}

/** What figures have to say of their target: all of it, where it is not the listed one of its name. */
export function unlisted(target: Target): Target | undefined {
  const listed = targetNamed(target.name);
  return listed && targetText(listed) === targetText(target) ? undefined : target;
}

/** The target of such figures. @throws OnelaunchError of kind usage */
export const targetOfFigures = (name: string, own: unknown): Target =>
  own === undefined ? resolveTarget(name) : parseTarget(own, name);

/** The listed target of a GPU, else one of its architecture under the GPU's own name. @throws usage for an architecture without a listed target */
function targetOf(gpu: Gpu): Target {
  const words = gpu.name.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
  const named = targetNames().find((name) => words.includes(name));
  if (named !== undefined) return targetNamed(named)!;
  const all = targets();
  const alike = all.find((target) => target.arch.replace(/\D/g, '') === gpu.arch.replace(/\D/g, ''));
  if (alike) return { ...alike, name: words, bandwidth: null, bandwidthFrom: 'unknown' };
  throw new OnelaunchError('usage', `no target for ${gpu.name} (${gpu.arch})`, {
    hint: `supported: ${[...new Set(all.map((target) => target.arch).filter(Boolean))].join(', ')}; or --target cpu`,
  });
}

/** A built-in plan, or the default export of a .ts, .js or .mjs file; whoever asks sees whether it decodes or takes in prompts. */
export const resolvePlan = async (name: string): Promise<FusionPlan> => (await findDecoding(name)).plan;

/** The same with its variants: those that ship, or what a file exports as `variants`. */
export async function resolveVaried(name: string): Promise<VariedPlan> {
  const { plan, variants } = await findDecoding(name);
  return { plan, variants: variants() };
}

const findDecoding = (name: string): Promise<FoundPlan> =>
  findPlan(name, { kind: 'plan', names: planNames(), shown: bases.map(withVariants) });

/** The same, where one for prompts is asked for. */
export const resolvePromptPlan = async (name: string): Promise<FusionPlan> => {
  const wanted = { kind: 'prompt plan', names: promptPlanNames(), shown: [withVariants(prefill)] };
  return (await findPlan(name, wanted)).plan;
};

/** Plans that ship as variants of one that ships. */
export const shippedVariants = ({ name, file }: FusionPlan): readonly FusionPlan[] =>
  file === null ? [...plans, ...promptPlans].filter((plan) => plan.name.startsWith(`${name}-`)) : [];

interface FoundPlan {
  readonly plan: FusionPlan;
  /** Looked at by who needs them. @throws OnelaunchError of kind usage */
  readonly variants: () => readonly FusionPlan[];
}

/** @param wanted what an unknown name should have been */
async function findPlan(
  name: string,
  wanted: { readonly kind: string; readonly names: readonly string[]; readonly shown: readonly string[] },
): Promise<FoundPlan> {
  checkName(name, 'plan');
  const known = [...plans, ...promptPlans].find((plan) => plan.name === name);
  if (known) return { plan: known, variants: () => shippedVariants(known) };
  if (!/\.[mc]?[jt]s$/.test(name))
    throw unknown(wanted.kind, name, wanted.names, wanted.shown, '; or the path of a .ts or .js file');
  const file = resolve(name);
  const stats = statSync(file, { throwIfNoEntry: false });
  const kind = stats && kindOf(stats);
  if (!stats || kind !== undefined) {
    throw new OnelaunchError('usage', kind ? `${name} is ${kind}, not a plan file` : `no plan file ${name}`, {
      hint: 'its default export is what plan(...) returns',
    });
  }
  try {
    accessSync(file, constants.R_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new OnelaunchError('usage', `plan file ${name} cannot be read: ${code}`, {
      hint: 'see who may read it: ls -l',
      cause,
    });
  }
  const read = await readPlan(file, name);
  const plan = parseExported(read.plan, { file, name });
  return { plan, variants: () => ownVariants(read.variants, { plan, file, name }) };
}

/** A plan that a file exports. What is none is said of the file: there may be two of them. @param what it is there, other than the default export */
function parseExported(
  value: unknown,
  { file, name }: { readonly file: string; readonly name: string },
  what?: string,
): FusionPlan {
  try {
    return parsePlan(value, file, what);
  } catch (error) {
    if (!(error instanceof OnelaunchError) || error instanceof PlanError) throw error;
    const { kind, message, hint } = error;
    throw new OnelaunchError(kind, `${name}: ${message}`, hint === undefined ? {} : { hint });
  }
}

/** What a plan file exports as `variants`. @param from its default export, its path, and as somebody named it */
function ownVariants(
  exported: unknown,
  { plan, file, name }: { readonly plan: FusionPlan; readonly file: string; readonly name: string },
): readonly FusionPlan[] {
  if (exported === undefined) return [];
  const hint = `as in: export const variants = [base.with('${plan.name}-unsplit', { attention: dealt({ split: 'none' }) })]`;
  if (!Array.isArray(exported))
    throw new OnelaunchError('usage', `the variants that ${name} exports are no list of plans`, { hint });
  const variants = exported.map((value, i) => parseExported(value, { file, name }, `variants[${i}]`));
  const names = [plan, ...variants].map((one) => one.name);
  const twice = names.find((one, i) => names.indexOf(one) !== i);
  if (twice !== undefined)
    throw new OnelaunchError('usage', `two plans that ${name} exports are called '${twice}'`, {
      hint: 'give each of its variants a name of its own',
    });
  // The command in the header of a kernel would make the default export of the file.
  return variants.map((variant) => changed(variant, { file: null }));
}
