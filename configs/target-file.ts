// A target as a file: what gen calibrate writes, and --target takes.
import { z } from 'zod';
import { opNames } from '../codegen/model/graph.ts';
import { didYouMean } from '../codegen/plan/did-you-mean.ts';
import { mostPollCycles } from '../codegen/plan/shape.ts';
import { platforms, runsKernels } from '../codegen/schedule/platform.ts';
import type { Target } from '../codegen/schedule/target.ts';
import { costTermNames } from '../codegen/schedule/terms.ts';
import { OnelaunchError } from '../errors.ts';
import { readPlainFile } from '../files/plain-file.ts';

const hint = 'gen calibrate writes such a file';
const count = z.int().nonnegative();
/** GB/s, far beyond those that there are: predictions stay numbers. */
const bandwidth = z.number().min(1e-3).max(1e6);
/** Of a term [us]. */
const micros = z.number().nonnegative().max(1e9);
const shape = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]*$/, "small letters, digits and '-'"),
  kind: z.enum(Object.keys(platforms) as Target['kind'][]),
  arch: z.string().regex(/^(|sm_\d+[a-z]?)$/, "'sm_90a', or '' on a CPU"),
  sms: count,
  sharedBytes: count,
  l2Bytes: count,
  bandwidth: bandwidth.nullable(),
  bandwidthFrom: z.enum(['measured', 'datasheet', 'unknown']),
  cacheBandwidth: bandwidth.optional(),
  pollCycles: z.partialRecord(z.enum(opNames as [string, ...string[]]), count.max(mostPollCycles)).optional(),
  terms: z.partialRecord(z.enum(costTermNames), micros).optional(),
  origin: z.record(z.string(), z.string()).optional(),
});

/** What a machine of a kind has: a GPU an architecture and multiprocessors, a CPU none of that; and a bandwidth comes from somewhere. */
const whole = shape.superRefine(({ kind, arch, sms, sharedBytes, bandwidth, bandwidthFrom }, context) => {
  const isGpu = kind === 'cuda';
  const wrong = {
    arch: (isGpu ? runsKernels(arch) : arch === '')
      ? null
      : isGpu
        ? "'sm_90a' or another from sm_80 on, of a GPU"
        : "'', of a CPU",
    sms: !isGpu || (sms >= 1 && sms <= mostSms) ? null : `1 to ${mostSms}, of a GPU`,
    sharedBytes: !isGpu || sharedBytes > 0 ? null : 'above 0, of a GPU',
    bandwidthFrom:
      (bandwidth === null) === (bandwidthFrom === 'unknown')
        ? null
        : "'unknown' where bandwidth is null, and there alone",
  };
  for (const [field, message] of Object.entries(wrong)) {
    if (message !== null) context.addIssue({ code: 'custom', path: [field], message });
  }
});

/** As many blocks as a plan can ask for. */
const mostSms = 1024;

/** @param name of the file, for messages. @throws usage that names the first wrong field */
export function parseTarget(value: unknown, name: string): Target {
  const parsed = whole.safeParse(value);
  if (parsed.success) return parsed.data as Target;
  const issue = parsed.error.issues[0]!;
  if (issue.code === 'unrecognized_keys') {
    const [field = ''] = issue.path.map(String);
    const inside: Readonly<Record<string, readonly string[]>> = { terms: costTermNames, pollCycles: opNames };
    const known = inside[field] ?? Object.keys(shape.shape);
    const what = field === '' ? 'a target' : `${field} of a target`;
    const hint = `${didYouMean(issue.keys[0]!, known)}${what} can have: ${known.join(', ')}`;
    throw new OnelaunchError('usage', `${name}: '${issue.keys[0]}' is nothing that ${what} has`, { hint });
  }
  const at = issue.path.join('.') || 'the file';
  throw new OnelaunchError('usage', `${name}: ${at}: ${issue.message}`, {
    hint,
  });
}

/** @throws usage where the file is not there, no JSON, or no target */
export function readTarget(path: string): Target {
  const text = readPlainFile(path, 1_000_000, hint).toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new OnelaunchError('usage', `${path} is no JSON: ${(error as Error).message}`, {
      hint,
    });
  }
  return parseTarget(value, path);
}

/** A target as the text of its file: fields in one order, whatever the target was made from. */
export function targetText(target: Target): string {
  const fields = Object.keys(shape.shape).flatMap((key) => {
    const value = target[key as keyof Target];
    return value === undefined ? [] : [[key, value] as const];
  });
  return `${JSON.stringify(Object.fromEntries(fields), null, 2)}\n`;
}
