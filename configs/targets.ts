// The machines that kernels are specialised for.
import type { Target } from '../codegen/schedule/target.ts';

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
  barrierMicros: number,
  exchangeMicros = barrierMicros,
): Target => ({
  name,
  kind: 'cuda',
  arch,
  sms,
  sharedBytes: sharedKiB * KiB,
  l2Bytes: l2MiB * MiB,
  bandwidth,
  bandwidthFrom,
  barrierMicros,
  exchangeMicros,
});

export const targets: readonly Target[] = [
  {
    name: 'cpu',
    kind: 'cpu',
    arch: '',
    sms: 0,
    sharedBytes: 0,
    l2Bytes: 0,
    bandwidth: null,
    bandwidthFrom: 'unknown',
    barrierMicros: 1,
  },
  cuda('h100', 'sm_90a', 132, 227, 50, 3100, 'measured', 1.1, 0.86),
  {
    ...cuda('h200', 'sm_90a', 132, 227, 60, 4380, 'measured', 1.1),
    // qwen3-0.6b, coordinate descent on the rate at positions 50 and 1,900; docs/devlog.md, section 6
    pollCycles: { qkv_proj: 700, attn_merge: 700, o_proj: 300, gate_up: 900, down_proj: 1000 },
  },
  cuda('a100', 'sm_80', 108, 163, 40, 1383, 'measured', 1.3),
  cuda('rtx3090', 'sm_86', 82, 99, 6, 936, 'datasheet', 0.8),
  cuda('rtx4090', 'sm_89', 128, 99, 72, 1008, 'datasheet', 1),
  cuda('rtx5090', 'sm_120', 170, 99, 96, 1674, 'measured', 1.2),
  cuda('b200', 'sm_100a', 148, 227, 126, 8000, 'datasheet', 1.2),
];
