// The GPUs that programs of this machine see, counted as CUDA counts them.
import { outputOf } from './tools.ts';

/** A GPU of this machine, as nvidia-smi has it. */
export interface Gpu {
  readonly name: string;
  /** Such as sm_90. */
  readonly arch: string;
  readonly driver: string;
  readonly memoryMiB: number;
  /** Of it, what no program has now; NaN where the driver does not say. */
  readonly freeMiB: number;
  /** Such as GPU-5c89cb7c-…: what nvidia-smi finds it by, whatever number it has for CUDA. */
  readonly uuid: string;
}

/** All that nvidia-smi lists. */
function listedGpus(): Gpu[] {
  const text = outputOf('nvidia-smi', [
    '--query-gpu=name,compute_cap,driver_version,memory.total,memory.free,uuid',
    '--format=csv,noheader,nounits',
  ]);
  return (text ?? '').split('\n').flatMap((line) => {
    const [name, capability, driver, memory, free, uuid = ''] = line.split(',').map((part) => part.trim());
    if (!name || !capability || !driver || !memory) return [];
    const arch = `sm_${capability.replace('.', '')}`;
    return [{ name, arch, driver, memoryMiB: Number(memory), freeMiB: Number(free), uuid }];
  });
}

/**
 * Those that CUDA_VISIBLE_DEVICES leaves, in its order: as CUDA reads it, up to the first word that is no GPU, and none where one stands twice.
 * Numbers are of GPUs of one kind in the order of nvidia-smi; CUDA's own order puts the fastest first.
 * @param visible the variable. A part of a GPU (MIG) is not listed, so that all are left.
 */
export function visibleOf(gpus: readonly Gpu[], visible: string | undefined): readonly Gpu[] {
  if (visible === undefined || visible.trim().startsWith('MIG-')) return gpus;
  const left: Gpu[] = [];
  for (const word of visible.split(',').map((part) => part.trim())) {
    const named = gpus.filter(({ uuid }) => word.startsWith('GPU-') && uuid.startsWith(word));
    const found = /^\d+$/.test(word) ? gpus[Number(word)] : named.length === 1 ? named[0] : undefined;
    if (!found) break;
    if (left.includes(found)) return [];
    left.push(found);
  }
  return left;
}

/** The GPUs that a kernel can run on, by their ordinal. */
export const findGpus = (): readonly Gpu[] => visibleOf(listedGpus(), process.env['CUDA_VISIBLE_DEVICES']);

/** Why there is none of them though some are there; null: some are left, or none is there. */
export function whyNoGpu(): string | null {
  const visible = process.env['CUDA_VISIBLE_DEVICES'];
  const listed = listedGpus();
  if (listed.length === 0 || visibleOf(listed, visible).length > 0) return null;
  return `CUDA_VISIBLE_DEVICES is '${visible}', which leaves no GPU`;
}

/** The first of them, or null. */
export const findGpu = (): Gpu | null => findGpus()[0] ?? null;

/** What nvidia-smi finds the GPU of an ordinal by. */
export const smiIdOf = (ordinal: number): string =>
  (process.env['CUDA_VISIBLE_DEVICES'] === undefined ? undefined : findGpus()[ordinal]?.uuid) ||
  String(ordinal);
