// The machines that kernels are specialised for.
import { join } from 'node:path';
import { packageRoot } from '../codegen/build/package-root.ts';
import type { Target } from '../codegen/schedule/target.ts';
import { readTarget } from './target-file.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

const cuda = (
  name: string,
  arch: string,
  sms: number,
  sharedKiB: number,
  l2MiB: number,
  bandwidth: number,
  bandwidthFrom: 'measured' | 'datasheet',
  barrier: number,
): Target => ({
  name,
  kind: 'cuda',
  arch,
  sms,
  sharedBytes: sharedKiB * KiB,
  l2Bytes: l2MiB * MiB,
  bandwidth,
  bandwidthFrom,
  terms: { barrier },
});

/** A name alone: what gen calibrate has measured, a file of configs/targets/. */
const listed: readonly (Target | string)[] = [
  {
    name: 'cpu',
    kind: 'cpu',
    arch: '',
    sms: 0,
    sharedBytes: 0,
    l2Bytes: 0,
    bandwidth: null,
    bandwidthFrom: 'unknown',
  },
  'h100',
  'h200',
  cuda('a100', 'sm_80', 108, 163, 40, 1383, 'measured', 1.3),
  cuda('rtx3090', 'sm_86', 82, 99, 6, 936, 'datasheet', 0.8),
  cuda('rtx4090', 'sm_89', 128, 99, 72, 1008, 'datasheet', 1),
  cuda('rtx5090', 'sm_120', 170, 99, 96, 1674, 'measured', 1.2),
  cuda('b200', 'sm_100a', 148, 227, 126, 8000, 'datasheet', 1.2),
];

const nameOf = (one: Target | string): string => (typeof one === 'string' ? one : one.name);

/** Names of the targets that ship. */
export const targetNames = (): string[] => listed.map(nameOf);

const read = new Map<string, Target>();

/** A listed target; its file, if it has one, is read when it is first asked for. */
export function targetNamed(name: string): Target | undefined {
  const found = listed.find((one) => nameOf(one) === name);
  if (typeof found !== 'string') return found;
  const target = read.get(name) ?? readTarget(join(packageRoot(), 'configs', 'targets', `${name}.json`));
  read.set(name, target);
  return target;
}

/** All of them, files included. */
export const targets = (): readonly Target[] => targetNames().map((name) => targetNamed(name)!);
