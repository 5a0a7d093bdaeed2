// How much memory a process may still take here: of the machine, of its control groups, and of addresses; and of a GPU. What cannot be told is null, and
// keeps nobody from anything.
import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import type { Gpu } from './codegen/build/gpus.ts';

/** Bytes; null: not known. */
export interface FreeMemory {
  /** Free now. What files are cached in counts as free, and so does swap. */
  readonly now: number | null;
  /** Free if nothing else ran. */
  readonly ever: number | null;
  /** That may still be mapped: by the limits of the process, and where the system promises no more than it has. */
  readonly mappable: number | null;
}

type Read = (path: string) => string | null;

/** @param read the text of a file of the system; null where it cannot be read */
export function freeMemory(read: Read = readText): FreeMemory {
  const machine = machineMemory(read);
  const groups = groupsOf(read).flatMap((group) => memoryOfGroup(read, group, machine));
  return {
    now: least([machine.now, ...groups.map(({ now }) => now)]),
    ever: least([machine.ever, ...groups.map(({ ever }) => ever)]),
    mappable: least([...limitsOf(read), promised(read)]),
  };
}

/** Of a GPU; where they differ, of the one that has most: CUDA may count them in another order. @param gpus of this machine */
export function freeOnGpu(
  gpus: readonly Pick<Gpu, 'name' | 'memoryMiB' | 'freeMiB'>[],
  device: number,
): FreeMemory {
  const alike = gpus.every(({ name }) => name === gpus[0]!.name);
  const most = (of: 'memoryMiB' | 'freeMiB') => {
    const sizes = (alike ? gpus.slice(device, device + 1) : gpus).map((gpu) => gpu[of] * 2 ** 20);
    return sizes.length === 0 || sizes.some(Number.isNaN) ? null : Math.max(...sizes);
  };
  return { now: most('freeMiB'), ever: most('memoryMiB'), mappable: null };
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

const least = (bytes: readonly (number | null)[]): number | null =>
  bytes.reduce((a, b) => (a === null || (b !== null && b < a) ? b : a), null);

/** The number in a line such as `MemTotal: 1024 kB` or `inactive_file 4096` [bytes]. */
function numberIn(text: string | null, name: string): number | null {
  const [, number, unit] = new RegExp(`^${name}:?\\s+(\\d+)( kB)?`, 'm').exec(text ?? '') ?? [];
  return number === undefined ? null : Number(number) * (unit === undefined ? 1 : 1024);
}

interface Machine {
  readonly now: number | null;
  readonly ever: number | null;
  readonly swapFree: number;
  readonly swapAll: number;
}

function machineMemory(read: Read): Machine {
  const text = read('/proc/meminfo');
  const [all, available] = [numberIn(text, 'MemTotal'), numberIn(text, 'MemAvailable')];
  const [swapFree, swapAll] = [numberIn(text, 'SwapFree') ?? 0, numberIn(text, 'SwapTotal') ?? 0];
  return {
    now: available === null ? null : available + cacheOfZfs(read) + swapFree,
    ever: all === null ? null : all + swapAll,
    ...{ swapFree, swapAll },
  };
}

/** What ZFS caches, and would give back: Linux does not count it as available. */
function cacheOfZfs(read: Read): number {
  const [size = 0, kept = 0] = ['size', 'c_min'].map((name) =>
    Number(
      new RegExp(`^${name}\\s+\\d+\\s+(\\d+)`, 'm').exec(read('/proc/spl/kstat/zfs/arcstats') ?? '')?.[1] ??
        0,
    ),
  );
  return Math.max(0, size - kept);
}

/** A folder of the control group of this process, or of one above it. */
interface Group {
  readonly version: 1 | 2;
  readonly folder: string;
}

/** In a container the path may be that outside: folders that are not there are left out when they are read, and the root has its limits then. */
function groupsOf(read: Read): readonly Group[] {
  return (read('/proc/self/cgroup') ?? '').split('\n').flatMap((line) => {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    const version = controllers === '' ? 2 : 1;
    if (path === '' || (version === 1 && !controllers.split(',').includes('memory'))) return [];
    const root = version === 2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory';
    const names = posix.normalize(path).split('/').filter(Boolean);
    return [...names.keys(), names.length].map((count): Group => {
      return { version, folder: posix.join(root, ...names.slice(0, count)) };
    });
  });
}

/** Files in memory that a group gives back when it needs the space, as its memory.stat has them. */
const reclaimable = {
  1: ['total_inactive_file', 'total_active_file'],
  2: ['inactive_file', 'active_file', 'slab_reclaimable'],
};

/** What a group leaves to its processes; nothing where it has no limit. */
function memoryOfGroup(read: Read, { version, folder }: Group, machine: Machine) {
  const bytes = (name: string): number | null => {
    const text = read(posix.join(folder, name))?.trim() ?? '';
    return /^\d+$/.test(text) ? Number(text) : null;
  };
  const names =
    version === 2
      ? { most: 'memory.max', used: 'memory.current' }
      : { most: 'memory.limit_in_bytes', used: 'memory.usage_in_bytes' };
  const [most, used] = [bytes(names.most), bytes(names.used)];
  // Version 1 writes a limit that nobody set as the largest number there is.
  if (most === null || used === null || most > Number.MAX_SAFE_INTEGER) return [];
  const stat = read(posix.join(folder, 'memory.stat'));
  const cached = reclaimable[version].reduce((sum, name) => sum + (numberIn(stat, name) ?? 0), 0);
  const left = most - used + cached;
  if (version === 2) {
    const [swap, swapUsed] = [bytes('memory.swap.max'), bytes('memory.swap.current')];
    const swapFree = Math.min(
      machine.swapFree,
      Math.max(0, (swap ?? Number.POSITIVE_INFINITY) - (swapUsed ?? 0)),
    );
    return [{ now: left + swapFree, ever: most + Math.min(machine.swapAll, swap ?? machine.swapAll) }];
  }
  const [both, bothUsed] = [bytes('memory.memsw.limit_in_bytes'), bytes('memory.memsw.usage_in_bytes')];
  const unlimited = both === null || bothUsed === null || both > Number.MAX_SAFE_INTEGER;
  const withSwap = unlimited
    ? { now: Number.POSITIVE_INFINITY, ever: Number.POSITIVE_INFINITY }
    : { now: both - bothUsed + cached, ever: both };
  return [
    {
      now: Math.min(left + machine.swapFree, withSwap.now),
      ever: Math.min(most + machine.swapAll, withSwap.ever),
    },
  ];
}

/** What the limits of this process (ulimit -v and -d) leave. */
function limitsOf(read: Read): (number | null)[] {
  const [limits, status] = [read('/proc/self/limits'), read('/proc/self/status')];
  return [
    ['Max address space', 'VmSize'],
    ['Max data size', 'VmData'],
  ].map(([limit = '', used = '']) => {
    const most = new RegExp(`^${limit}\\s+(\\d+)`, 'm').exec(limits ?? '')?.[1];
    return most === undefined ? null : Math.max(0, Number(most) - (numberIn(status, used) ?? 0));
  });
}

/** What may still be promised, where vm.overcommit_memory is 2: elsewhere more may be than there is. */
function promised(read: Read): number | null {
  if (read('/proc/sys/vm/overcommit_memory')?.trim() !== '2') return null;
  const text = read('/proc/meminfo');
  const [most, given] = [numberIn(text, 'CommitLimit'), numberIn(text, 'Committed_AS')];
  return most === null || given === null ? null : Math.max(0, most - given);
}
