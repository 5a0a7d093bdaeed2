// A schedule into sources: every file that the compilers read, as text.
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { abiVersion } from '../../abi/abi.ts';
import { abiHeader } from '../../abi/header.ts';
import { debug } from '../build/debug.ts';
import { packageRoot } from '../build/package-root.ts';
import type { Schedule } from '../schedule/schedule.ts';
import { opsText } from './ops-text.ts';
import { readTemplate, render } from './render.ts';
import { kernelView, slotsView } from './view.ts';

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
  const view = kernelView(schedule, command, await opsText());
  debug(5, () => JSON.stringify(view, null, 1));
  const kernel = target.kind === 'cuda' ? 'kernel.cu' : 'kernel.cpp';
  const folder = schedule.stream ? 'cuda/stream' : target.kind;
  const scheme = schedule.stream ? 'stream' : 'barriers';
  const files: Record<string, string> = {
    [kernel]: render(`${folder}/${kernel}.hbs`, view),
    'model.h': render(schedule.stream ? 'cuda/stream/model.h.hbs' : 'model.h.hbs', view),
    'abi.h': abiHeader(),
    ...Object.fromEntries([
      ...copied(`${target.kind}/lib`, 'lib/'),
      ...copied('host', 'host/'),
      ...(schedule.stream ? copied('cuda/stream', 'stream/') : []),
      ...(target.kind === 'cuda'
        ? [...copied('cuda/host', 'host/'), ...copied(`cuda/${scheme}/host`, 'host/')]
        : copied('cpu', '')),
    ]),
  };
  const slots = (hash: string) => render('slots.h.hbs', slotsView(schedule, command, hash));
  const hash = identityOf({ ...files, 'slots.h': slots('') }, schedule);
  return { files: { ...files, 'slots.h': slots(hash) }, hash };
}
