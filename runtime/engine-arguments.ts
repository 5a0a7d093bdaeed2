// Arguments of an engine that C would bend or trip over are refused before it sees them.
import { OnelaunchError } from '../errors.ts';
import { type Sampling, sourceDtype, type TensorSource } from './bindings.ts';

export type TokenIds = readonly number[] | Int32Array;

const maxInt32 = 2 ** 31 - 1;

export function checkSource(source: Readonly<TensorSource>, name: string): void {
  const { path, offset, slot, dtype, seed, mean, scale } = source;
  checkInteger(`${name}.slot`, slot, 0);
  checkInteger(`${name}.dtype`, dtype, sourceDtype.bf16, sourceDtype.random);
  checkBits64(`${name}.seed`, seed);
  checkNumber(`${name}.mean`, mean);
  checkNumber(`${name}.scale`, scale, 0);
  if (dtype === sourceDtype.random) return;
  check(typeof path === 'string' && path !== '' && !path.includes('\0'), `${name}.path is not a path`);
  checkInteger(`${name}.offset`, offset, 0, Number.MAX_SAFE_INTEGER);
}

export function checkSampling(sampling: Readonly<Sampling>, vocab: number): void {
  checkNumber('sampling.temperature', sampling.temperature, 0);
  checkInteger('sampling.top_k', sampling.top_k, 0);
  checkNumber('sampling.top_p', sampling.top_p, 0, 1);
  check(Math.fround(sampling.top_p) > 0, 'sampling.top_p is 0; 1 turns it off');
  checkNumber('sampling.min_p', sampling.min_p, 0, 1);
  checkNumber('sampling.repetition_penalty', sampling.repetition_penalty, 0);
  check(Math.fround(sampling.repetition_penalty) > 0, 'sampling.repetition_penalty is 0; 1 turns it off');
  checkNumber('sampling.presence_penalty', sampling.presence_penalty);
  checkBits64('sampling.seed', sampling.seed);
  checkInteger('sampling.vocab', sampling.vocab, 1, vocab);
}

/** A copy of ids as the library reads it. */
export function tokenArray(name: string, ids: TokenIds, vocab: number): Int32Array {
  check(Array.isArray(ids) || ids instanceof Int32Array, `${name} is neither an array nor an Int32Array`);
  for (let i = 0; i < ids.length; i++) checkInteger(`${name}[${i}]`, ids[i], 0, vocab - 1);
  return Int32Array.from(ids);
}

function checkBits64(name: string, value: unknown): void {
  if (typeof value === 'bigint')
    check(BigInt.asUintN(64, value) === value, `${name} is ${value}, not a number of 64 bits`);
  else checkInteger(name, value, 0, Number.MAX_SAFE_INTEGER);
}

export function checkInteger(name: string, value: unknown, min: number, max = maxInt32): void {
  const fits = typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
  if (!fits) throw usage(`${name} is ${shown(value)}, not an integer from ${min} to ${max}`);
}

/** That value is finite, also as a 32-bit float. */
function checkNumber(name: string, value: unknown, min = -Infinity, max = Infinity): void {
  const fits =
    typeof value === 'number' && Number.isFinite(Math.fround(value)) && value >= min && value <= max;
  const range =
    min === -Infinity ? 'a finite number' : `a number from ${min}${max === Infinity ? ' on' : ` to ${max}`}`;
  if (!fits) throw usage(`${name} is ${shown(value)}, not ${range}`);
}

export function check(condition: boolean, message: string): asserts condition {
  if (!condition) throw usage(message);
}

const shown = (value: unknown) => (typeof value === 'string' ? JSON.stringify(value) : String(value));

export const usage = (message: string, hint?: string) =>
  new OnelaunchError('usage', message, hint === undefined ? {} : { hint });
