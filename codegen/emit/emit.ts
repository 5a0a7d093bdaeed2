// A schedule into sources: every file that the compilers read, as text.
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { abiVersion } from '../../abi/abi.ts';
import { abiHeader } from '../../abi/header.ts';
import { debug } from '../build/debug.ts';
import { packageRoot } from '../build/package-root.ts';
import { platformOf } from '../schedule/target.ts';
import { type Schedule, schemeOf } from '../schemes/index.ts';
import { opsText } from './ops-text.ts';
import { readTemplate, render } from './render.ts';
import { slotsView } from './view.ts';

export interface Sources {
  /** File name, relative to the generated folder -> text. */
  readonly files: Readonly<Record<string, string>>;
  /** Of everything that makes this library another one: see `identityOf`. */
  readonly hash: string;
}

/** What makes a library that library: the ABI, the dims that its manifest hands to the runtime, and every file (slots.h without the hash itself). */
export function identityOf(files: Readonly<Record<string, string>>, { dims }: Schedule): string {
  const digest = createHash('sha256').update(JSON.stringify([abiVersion, dims]));
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

/** The sources of one library. Same schedule, same bytes. */
export async function emitSources(schedule: Schedule): Promise<Sources> {
  const { target, dims, plan } = schedule;
  const command = `gen --model ${dims.name} --target ${target.name} --plan ${plan.name}`;
  const scheme = schemeOf(schedule);
  const view = scheme.view(schedule, { command, ops: await opsText() });
  debug(5, () => JSON.stringify(view, null, 1));
  const templates = scheme.templates(target);
  const files: Record<string, string> = {
    [platformOf(target).kernelFile]: render(templates.kernel, view),
    'model.h': render(templates.model, view),
    'abi.h': abiHeader(),
    ...Object.fromEntries(templates.copied.flatMap(([folder, into]) => copied(folder, into))),
  };
  const slots = (hash: string) => render('slots.h.hbs', slotsView(schedule, command, hash));
  const hash = identityOf({ ...files, 'slots.h': slots('') }, schedule);
  return { files: { ...files, 'slots.h': slots(hash) }, hash };
}
