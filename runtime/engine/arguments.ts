// Arguments of an engine that C would bend or trip over are refused before it sees them.
import { OnelaunchError } from '../../errors.ts';
import { copyOfJson } from '../../files/json-text.ts';
import { type Packing, type Sampling, sourceDtype, type TensorSource } from './bindings.ts';

/** Of a source whose numbers are no codes. */
export const notPacked: Packing = {
  ...{ scales: null, scales_offset: 0, scales_dtype: 0, group_rows: 1, group_columns: 1 },
  ...{ zeros: null, zeros_offset: 0, zeros_added: 0, file_rows: 1 },
};

export type TokenIds = readonly number[] | Int32Array;

const maxInt32 = 2 ** 31 - 1;

/** What read() makes of an argument. What a getter or a proxy in it throws becomes a usage error. */
export function readArgument<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (isOurs(cause)) throw cause;
    throw usage(`${name} cannot be read`, 'A getter or a proxy in it throws: give plain values.', cause);
  }
}

/** A copy of an argument that is JSON. @param hint for what nests too deep */
export const copyArgument = <T>(name: string, value: T, hint: string): T =>
  readArgument(name, () => copyOfJson(value, name, hint));

/** Of a proxy even the class cannot be asked. */
function isOurs(error: unknown): boolean {
  try {
    return error instanceof OnelaunchError;
  } catch {
    return false;
  }
}

/** An object whose properties may be read. */
export function checkObject(name: string, value: unknown): void {
  check(typeof value === 'object' && value !== null, `${name} is ${shown(value)}, not an object`);
}

export function checkFunction(name: string, value: unknown): void {
  check(value === undefined || typeof value === 'function', `${name} is ${shown(value)}, not a function`);
}

export function checkSignal(name: string, value: unknown): void {
  check(
    value === undefined || value instanceof AbortSignal,
    `${name} is ${shown(value)}, not an AbortSignal`,
  );
}

/** A copy of a source that C takes. */
export function checkSource(source: Readonly<TensorSource>, name: string): TensorSource {
  checkObject(name, source);
  const { path, offset, slot, dtype, head_rows, seed, mean, scale } = source;
  checkInteger(`${name}.slot`, slot, 0);
  checkInteger(`${name}.dtype`, dtype, sourceDtype.bf16, sourceDtype.awq4);
  checkInteger(`${name}.head_rows`, head_rows, 0);
  checkBits64(`${name}.seed`, seed);
  checkNumber(`${name}.mean`, mean);
  checkNumber(`${name}.scale`, scale, 0);
  if (dtype === sourceDtype.random)
    return { path: null, offset: 0, slot, dtype, head_rows, seed, mean, scale, packing: notPacked };
  check(typeof path === 'string' && path !== '' && !path.includes('\0'), `${name}.path is not a path`);
  checkInteger(`${name}.offset`, offset, 0, Number.MAX_SAFE_INTEGER);
  const packing = dtype < sourceDtype.f8 ? notPacked : checkPacking(source.packing, `${name}.packing`);
  return { path, offset, slot, dtype, head_rows, seed, mean, scale, packing };
}

function checkPacking(packing: Readonly<Packing>, name: string): Packing {
  checkObject(name, packing);
  const { scales, scales_offset, scales_dtype, group_rows, group_columns } = packing;
  const { zeros, zeros_offset, zeros_added, file_rows } = packing;
  check(typeof scales === 'string' && !scales.includes('\0'), `${name}.scales is not a path`);
  check(
    zeros === null || (typeof zeros === 'string' && !zeros.includes('\0')),
    `${name}.zeros is not a path`,
  );
  checkInteger(`${name}.scales_offset`, scales_offset, 0, Number.MAX_SAFE_INTEGER);
  checkInteger(`${name}.scales_dtype`, scales_dtype, sourceDtype.bf16, sourceDtype.fp32);
  checkInteger(`${name}.group_rows`, group_rows, 1);
  checkInteger(`${name}.group_columns`, group_columns, 1);
  checkInteger(`${name}.zeros_offset`, zeros_offset, 0, Number.MAX_SAFE_INTEGER);
  checkInteger(`${name}.zeros_added`, zeros_added, 0, 1);
  checkInteger(`${name}.file_rows`, file_rows, 1);
  return {
    ...{ scales, scales_offset, scales_dtype, group_rows, group_columns },
    ...{ zeros, zeros_offset, zeros_added, file_rows },
  };
}

/** A copy of sampling that C takes. */
export function checkSampling(sampling: Readonly<Sampling>, vocab: number): Sampling {
  checkObject('sampling', sampling);
  const copy: Sampling = {
    temperature: sampling.temperature,
    top_k: sampling.top_k,
    top_p: sampling.top_p,
    min_p: sampling.min_p,
    repetition_penalty: sampling.repetition_penalty,
    presence_penalty: sampling.presence_penalty,
    frequency_penalty: sampling.frequency_penalty,
    seed: sampling.seed,
    vocab: sampling.vocab,
  };
  checkNumber('sampling.temperature', copy.temperature, 0);
  checkInteger('sampling.top_k', copy.top_k, 0);
  checkNumber('sampling.top_p', copy.top_p, 0, 1);
  check(Math.fround(copy.top_p) > 0, 'sampling.top_p is 0; 1 turns it off');
  checkNumber('sampling.min_p', copy.min_p, 0, 1);
  checkNumber('sampling.repetition_penalty', copy.repetition_penalty, 0);
  check(Math.fround(copy.repetition_penalty) > 0, 'sampling.repetition_penalty is 0; 1 turns it off');
  checkNumber('sampling.presence_penalty', copy.presence_penalty);
  checkNumber('sampling.frequency_penalty', copy.frequency_penalty);
  checkBits64('sampling.seed', copy.seed);
  checkInteger('sampling.vocab', copy.vocab, 1, vocab);
  return copy;
}

/** A copy of ids as the library reads it. */
export function tokenArray(name: string, ids: TokenIds, vocab: number): Int32Array {
  return readArgument(name, () => {
    check(Array.isArray(ids) || ids instanceof Int32Array, `${name} is neither an array nor an Int32Array`);
    const copy: number[] = [];
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i];
      checkInteger(`${name}[${i}]`, id, 0, vocab - 1);
      copy.push(id);
    }
    return Int32Array.from(copy);
  });
}

function checkBits64(name: string, value: unknown): void {
  if (typeof value === 'bigint')
    check(BigInt.asUintN(64, value) === value, `${name} is ${value}, not a number of 64 bits`);
  else checkInteger(name, value, 0, Number.MAX_SAFE_INTEGER);
}

export function checkInteger(
  name: string,
  value: unknown,
  min: number,
  max = maxInt32,
): asserts value is number {
  const fits = typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
  if (!fits) throw usage(`${name} is ${shown(value)}, not an integer from ${min} to ${max}`);
}

/** That value is finite, also as a 32-bit float. */
export function checkNumber(name: string, value: unknown, min = -Infinity, max = Infinity): void {
  const fits =
    typeof value === 'number' && Number.isFinite(Math.fround(value)) && value >= min && value <= max;
  const range =
    min === -Infinity ? 'a finite number' : `a number from ${min}${max === Infinity ? ' on' : ` to ${max}`}`;
  if (!fits) throw usage(`${name} is ${shown(value)}, not ${range}`);
}

export function check(condition: boolean, message: string): asserts condition {
  if (!condition) throw usage(message);
}

/** A value in an error text; never runs code of an object. */
function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'function') return 'a function';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

export const usage = (
  message: string,
  hint = 'The doc comment of the argument says what it may be.',
  cause?: unknown,
) => new OnelaunchError('usage', message, { hint, cause });
