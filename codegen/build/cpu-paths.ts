// Instruction sets that the CPU kernel can be compiled for, which of them a machine has, and which a library has to hold.
import { readFileSync } from 'node:fs';
import { OnelaunchError } from '../../errors.ts';

/** One compilation of kernel.cpp: the library picks the best that its CPU has, when an engine is made. */
export interface CpuPath {
  /** ISA_NAME of the sources. */
  readonly name: string;
  /** As templates/cpu/paths.h calls it. */
  readonly title: string;
  /** For g++ and clang++. */
  readonly flags: readonly string[];
  /** What the library asks of the CPU, as __builtin_cpu_supports calls it. */
  readonly needs: readonly string[];
  /** Several tokens are multiplied as pairs of bf16, to which their activations are rounded: Paired of templates/cpu/lib/step.h. */
  readonly pairs: boolean;
}

const avx2 = ['avx2', 'fma', 'f16c'];
const avx512 = [...avx2, 'avx512f', 'avx512bw', 'avx512vl', 'avx512dq'];
const asFlags = (sets: readonly string[]) => sets.map((set) => `-m${set}`);

const x86Paths: readonly CpuPath[] = [
  { name: 'plain', title: 'plain C++', flags: [], needs: [], pairs: false },
  { name: 'avx2', title: 'AVX2', flags: asFlags(avx2), needs: avx2, pairs: false },
  { name: 'avx512', title: 'AVX-512', flags: asFlags(avx512.slice(1)), needs: avx512, pairs: false },
  {
    name: 'avx512bf16',
    title: 'AVX-512-BF16',
    flags: asFlags([...avx512.slice(1), 'avx512bf16', 'avx512vnni']),
    needs: [...avx512, 'avx512bf16', 'avx512vnni'],
    pairs: true,
  },
];

/** Those of this architecture, best last. */
export const cpuPaths: readonly CpuPath[] = process.arch === 'x64' ? x86Paths : x86Paths.slice(0, 1);

/** Where Linux spells a set with an underscore. */
const spelledByLinux: Readonly<Record<string, string>> = {
  avx512bf16: 'avx512_bf16',
  avx512vnni: 'avx512_vnni',
};

/** The paths that a machine can run, best last: from the same flags of its CPU that the library asks for.
 *  @param cpuinfo the text of /proc/cpuinfo; null where there is none: not known, so null */
export function pathsOf(cpuinfo: string | null): readonly CpuPath[] | null {
  const flags = /^flags\s*:(.*)$/m
    .exec(cpuinfo ?? '')?.[1]
    ?.trim()
    .split(/\s+/);
  if (!flags) return cpuPaths.length === 1 ? cpuPaths : null;
  const has = new Set(flags);
  return cpuPaths.filter(({ needs }) => needs.every((set) => has.has(spelledByLinux[set] ?? set)));
}

/** The paths that this machine can run, best last; null where it does not tell. */
export function pathsHere(): readonly CpuPath[] | null {
  try {
    return pathsOf(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return pathsOf(null);
  }
}

/** Whether a library that holds these paths multiplies pairs of bf16 here: by its best path that this machine can run. */
export const multipliesPairs = (paths: readonly string[], here = pathsHere()): boolean =>
  (here ?? []).filter(({ name }) => paths.includes(name)).at(-1)?.pairs ?? false;

/** Which paths a library has to hold. */
export interface WantedPaths {
  readonly paths: readonly CpuPath[];
  /** These and no others, by $ONELAUNCH_CPU_PATHS; else a library that holds more will do. */
  readonly exact: boolean;
}

/**
 * The best path of this machine; all of them to ship a library to others, or where this machine does not tell.
 * @throws OnelaunchError usage for a name in $ONELAUNCH_CPU_PATHS, such as plain,avx2, that is none
 */
export function wantedPaths(ship: boolean): WantedPaths {
  const listed = process.env['ONELAUNCH_CPU_PATHS'];
  if (ship || !listed) {
    const best = ship ? undefined : pathsHere()?.at(-1);
    return { paths: best ? [best] : cpuPaths, exact: false };
  }
  const names = listed.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !cpuPaths.some((path) => path.name === name));
  if (unknown !== undefined) {
    throw new OnelaunchError('usage', `ONELAUNCH_CPU_PATHS has no path '${unknown}'`, {
      hint: `known: ${cpuPaths.map(({ name }) => name).join(', ')}`,
    });
  }
  return { paths: cpuPaths.filter(({ name }) => names.includes(name)), exact: true };
}
