// How the table of abi.ts is read by both its printers: the C header and the koffi bindings.
import { invariant } from '../errors.ts';
import {
  abiStatus,
  abiStructs,
  finishCode,
  jobState,
  profilePhase,
  profileRole,
  sourceDtype,
  toldByte,
} from './abi.ts';

/** A table of codes, the C prefix and the TypeScript name of its constants. */
export const codeTables = [
  {
    name: 'abiStatus',
    prefix: 'kStatus',
    doc: 'What functions that return int32_t answer, and Progress.status.',
    values: abiStatus,
  },
  { name: 'jobState', prefix: 'kJob', doc: 'Progress.state.', values: jobState },
  { name: 'finishCode', prefix: 'kFinish', doc: 'Progress.finish.', values: finishCode },
  { name: 'toldByte', prefix: 'kTold', doc: 'What a byte of the channel says.', values: toldByte },
  {
    name: 'sourceDtype',
    prefix: 'kDtype',
    doc: 'TensorSource.dtype; a weight slot has one of the first three, or q8_0, q4_0, q4_1 or f8_block.',
    values: sourceDtype,
  },
  { name: 'profilePhase', prefix: 'kPhase', doc: 'ProfileEvent.phase.', values: profilePhase },
  { name: 'profileRole', prefix: 'kRole', doc: 'ProfileEvent.role.', values: profileRole },
] as const;

export const isStruct = (type: string) => abiStructs.some((struct) => struct.name === type);

/** Splits `in X`, `out X` into direction and type; plain types have no direction. */
export function direction(type: string): { way: 'in' | 'out' | 'plain'; type: string } {
  if (type.startsWith('in ')) return { way: 'in', type: type.slice(3) };
  if (type.startsWith('out ')) return { way: 'out', type: type.slice(4) };
  return { way: 'plain', type };
}

/** A table entry, or the invariant error: a type that this printer does not know. */
export function spell(table: Readonly<Record<string, string>>, type: string): string {
  const text = table[type];
  invariant(text !== undefined, `abi.ts uses the unknown type ${type}`);
  return text;
}
