// A schedule into sources: every file that the compilers read, as text.
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { abiVersion } from '../../abi/abi.ts';
import { abiHeader } from '../../abi/header.ts';
import { debug } from '../build/debug.ts';
import { packageRoot } from '../build/package-root.ts';
import type { ModelDims } from '../model/dims.ts';
import { weightNames } from '../model/formats.ts';
import { weightsName } from '../model/weights.ts';
import type { FusionPlan } from '../plan/plan.ts';
import { platformOf } from '../schedule/target.ts';
import { type Schedule, schemeOf } from '../schemes/index.ts';
import { otherFunction } from '../schemes/together.ts';
import { settleWeights } from '../settle-weights.ts';
import { opsOf } from './ops-text.ts';
import { readTemplate, render } from './render.ts';
import { shellWord } from './shell-word.ts';
import { type Origin, slotsView } from './view.ts';

export interface Sources {
  /** File name, relative to the generated folder -> text. */
  readonly files: Readonly<Record<string, string>>;
  /** Of everything that makes this library another one: see `identityOf`. */
  readonly hash: string;
}

/**
 * What makes a library that library: the ABI, the dims that its manifest hands to the runtime, and every file, without labels (slots.h
 * without the hash itself). Model, plan and target are called differently by different people.
 */
export function identityOf(files: Readonly<Record<string, string>>, { dims }: Schedule): string {
  const digest = createHash('sha256').update(JSON.stringify([abiVersion, { ...dims, name: '' }], inOrder));
  for (const [name, text] of Object.entries(files)) digest.update(`${name}\n${text}\n`);
  return digest.digest('hex').slice(0, 12);
}

/** Hole-free files of a folder under templates/, copied as they are. */
const copied = (folder: string, into: string): [string, string][] =>
  readdirSync(join(packageRoot(), 'templates', folder))
    .filter((file) => !file.endsWith('.hbs'))
    .filter((file) => /\.(h|cuh|cpp|cu)$/.test(file))
    .sort()
    .map((file) => [into + file, readTemplate(`${folder}/${file}`)]);

/** Dims are the same in whichever order they are written. */
const inOrder = (_: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort())
    : value;

/** A schedule without its labels, which stand in comments of the sources. */
const unlabelled = <S extends Schedule>(schedule: S): S => ({
  ...schedule,
  dims: { ...schedule.dims, name: '' },
  target: { ...schedule.target, name: '' },
  plan: { ...schedule.plan, name: '' },
});

/** A plan, lowered. */
export interface Lowered {
  readonly schedule: Schedule;
  readonly plan: FusionPlan;
}

/** The sources of one library: of what decodes, and of what takes in prompts where that has kernels of its own. Same schedules, same bytes.
 *  @throws OnelaunchError usage for two that compute different functions */
export async function emitSources(decoding: Lowered, prompts: Lowered | null): Promise<Sources> {
  const { dims, target } = decoding.schedule;
  const nameOf = ({ plan }: Lowered) => shellWord(plan.file ?? plan.name);
  const more = prompts ? ` --prompt-plan ${nameOf(prompts)}` : '';
  const weights = flagOf(dims);
  const cache = dims.cache ? ` --cache ${dims.cache}` : '';
  const command = `gen --model ${shellWord(dims.name)}${weights}${cache} --target ${target.name} --plan ${nameOf(decoding)}${more}`;
  const [made, ofPrompts] = [await printed(decoding), prompts && (await printed(prompts))];
  if (prompts && ofPrompts && brought(made) !== brought(ofPrompts))
    throw otherFunction(decoding.plan, prompts.plan, Object.keys(decoding.plan.ops));
  const without = ({ schedule, ops }: Printed): Printed => ({ schedule: unlabelled(schedule), ops });
  const plain = filesOf(without(made), ofPrompts && without(ofPrompts), '', '');
  const hash = identityOf(plain, made.schedule);
  return { files: filesOf(made, ofPrompts, command, hash), hash };
}

/** What asks for the formats of dims; nothing where the model itself has them, and no flag does. */
function flagOf({ weights, ...plain }: ModelDims): string {
  if (weights === undefined) return '';
  const name = weightsName(weights);
  const asked = settleWeights(
    plain,
    weightNames.find((one) => one === name),
  );
  return isDeepStrictEqual(asked.weights, weights) ? ` --weights ${name}` : '';
}

interface Printed extends Pick<Origin, 'ops'> {
  readonly schedule: Schedule;
}

async function printed({ schedule, plan }: Lowered): Promise<Printed> {
  const { text: ops, functions } = await opsOf(plan);
  return { schedule: { ...schedule, functions }, ops };
}

/** The functions that a plan brings, as a text: the same for the same ones. */
const brought = ({ ops, schedule: { functions = {} } }: Printed): string =>
  Object.keys(functions).length === 0
    ? ''
    : JSON.stringify([ops.toSorted(), Object.entries(functions).toSorted()]);

function filesOf(made: Printed, prompts: Printed | null, command: string, hash: string) {
  const { schedule } = made;
  const { kernelFile, withoutPrompts } = platformOf(schedule.target);
  return {
    ...kernelFiles(made, command, hash, kernelFile, 'model.h'),
    ...(prompts
      ? kernelFiles(prompts, command, hash, 'prompt.cu', 'prompt.h')
      : Object.fromEntries(withoutPrompts.flatMap(([folder, into]) => copied(folder, into)))),
    'abi.h': abiHeader(),
    'slots.h': render('slots.h.hbs', slotsView(schedule, command, hash)),
  };
}

/** What is printed of a schedule and copied beside it. */
function kernelFiles(
  { schedule, ops }: Printed,
  command: string,
  hash: string,
  kernel: string,
  header: string,
): Record<string, string> {
  const scheme = schemeOf(schedule);
  const view = scheme.view(schedule, { command, ops });
  if (hash) debug(5, () => JSON.stringify(view, null, 1));
  const templates = scheme.templates(schedule.target);
  return {
    [kernel]: render(templates.kernel, view),
    [header]: render(templates.model, view),
    ...Object.fromEntries(templates.copied.flatMap(([folder, into]) => copied(folder, into))),
  };
}
