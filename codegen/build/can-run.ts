// Whether a GPU of this machine can run what is compiled for a target.
import { existsSync } from 'node:fs';
import { OnelaunchError } from '../../errors.ts';
import type { Target } from '../schedule/target.ts';
import { type Gpu, whyNoGpu } from './gpus.ts';

/** Refuses a target that nothing here can run, and a GPU where the target is none. @param list the GPUs of this machine
 *  @throws OnelaunchError of kind environment or usage */
export function checkDevice(target: Target, device: number, list: () => readonly Gpu[]): void {
  if (target.kind !== 'cuda') {
    if (device === 0) return;
    const hint = 'leave it out, or give the target of that GPU';
    throw new OnelaunchError('usage', `device ${device} is a GPU, and ${target.name} is a CPU`, { hint });
  }
  const gpus = list();
  if (gpus.length === 0) {
    const hidden = whyNoGpu();
    if (hidden !== null) {
      throw new OnelaunchError('environment', hidden, {
        hint: 'unset it, or name GPUs as nvidia-smi -L lists them; or use --target cpu',
      });
    }
    // nvidia-smi is not everywhere where a driver is: the engine will see.
    if (driverFiles.some((path) => existsSync(path))) return;
    throw new OnelaunchError(
      'environment',
      `no GPU found here, and a kernel for ${target.name} runs on one`,
      {
        hint: 'use --target cpu; gen build compiles for a GPU that is elsewhere',
      },
    );
  }
  const listed = gpus.map(({ name, arch }) => `${name} (${arch})`).join(', ');
  if (device >= gpus.length) {
    throw new OnelaunchError('environment', `there is no GPU ${device} here`, {
      hint: `found, counted from 0: ${listed}`,
    });
  }
  if (!gpus.some(({ arch }) => runsOn(target.arch, arch))) {
    throw new OnelaunchError(
      'environment',
      `a kernel for ${target.name} (${target.arch}) runs on no GPU here`,
      {
        hint: `found: ${listed}; --target auto takes what is here`,
      },
    );
  }
}

/** Threads of a CPU where the target is a GPU: refused where it was asked for by name, else what is to be told of them, a line or none.
 *  @param asked the target as it was named @throws OnelaunchError of kind usage */
export function tellThreads(
  { kind, name }: Target,
  threads: number | undefined,
  asked: string | undefined,
): readonly string[] {
  if (kind !== 'cuda' || threads === undefined) return [];
  const text = `threads are of a CPU, and ${name} is a GPU`;
  if (asked === undefined || asked === 'auto') return [`${text}: they change nothing`];
  throw new OnelaunchError('usage', text, { hint: 'leave them out, or give the target cpu' });
}

const driverFiles = ['/dev/nvidiactl', '/dev/nvhost-ctrl', '/dev/dxg'];

/** Code for an architecture with a letter runs on that one alone; other code carries PTX, from which later GPUs make theirs. */
export function runsOn(compiled: string, gpu: string): boolean {
  const [wanted, found] = [compiled, gpu].map((arch) => Number(arch.replace(/\D/g, '')));
  return /[a-z]$/.test(compiled) ? wanted === found : found! >= wanted!;
}
