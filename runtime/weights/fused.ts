// Matrices that a checkpoint stores as one, as Phi-3's do: their rows are entries under the names that slots have.
import { OnelaunchError } from '../../errors.ts';
import { bytesOf, type TensorEntry, type Tensors } from './safetensors.ts';

/** The tensors, with parts in the place of qkv_proj, whose rows are those of queries, keys and values, and of gate_up_proj. How many are of
 *  queries is what the columns of o_proj say; what cannot be parted stays as it is.
 *  @throws OnelaunchError of kind usage for codes whose rows do not lie one after the other */
export function partedTensors(tensors: Tensors): Tensors {
  const parted = new Map<string, TensorEntry>();
  for (const [name, entry] of tensors) {
    const parts = partsOf(name, entry, tensors);
    if (parts === null) parted.set(name, entry);
    let first = 0;
    for (const [part, rows] of parts ?? []) {
      parted.set(part, rowsOf(name, entry, first, rows));
      first += rows;
    }
  }
  return parted;
}

function partsOf(
  name: string,
  { shape: [rows = 0, columns] }: TensorEntry,
  tensors: Tensors,
): readonly (readonly [name: string, rows: number])[] | null {
  if (columns === undefined) return null;
  const named = (fused: string, part: string) => name.replace(fused, part);
  if (name.endsWith('.mlp.gate_up_proj.weight'))
    return rows % 2 === 0 ? ['gate', 'up'].map((part) => [named('gate_up', part), rows / 2]) : null;
  if (!name.endsWith('.self_attn.qkv_proj.weight')) return null;
  const queries = tensors.get(named('qkv', 'o'))?.shape[1] ?? rows;
  const keys = (rows - queries) / 2;
  if (!(keys > 0 && Number.isInteger(keys))) return null;
  return [queries, keys, keys].map((count, i) => [named('qkv', 'qkv'[i]!), count]);
}

/** Some rows of a matrix, as if they were stored alone; of GPTQ and AWQ, which store columns, with what lies between them.
 *  @throws OnelaunchError of kind usage for rows that words or groups of rows do not end with */
function rowsOf(name: string, entry: TensorEntry, first: number, rows: number): TensorEntry {
  const { dtype, shape, packed } = entry;
  const [all = 0, columns = 0] = shape;
  const isTurned = /^(GPTQ|AWQ) /.test(dtype);
  /** Lines [from, from + count) of so many bytes. */
  const linesOf = <Part extends { readonly offset: number; readonly bytes: number }>(
    part: Part,
    from: number,
    count: number,
    lineBytes: number,
  ): Part => ({
    ...part,
    offset: part.offset + from * lineBytes,
    bytes: isTurned ? part.bytes - from * lineBytes : count * lineBytes,
  });
  const rowBytes = !isTurned ? entry.bytes / all : dtype === 'AWQ int4' ? 1 / 2 : 4;
  const part = { ...linesOf(entry, first, rows, rowBytes), shape: [rows, columns] };
  if (packed === undefined) return part;
  const { scales, zeros, group } = packed;
  const refuse = (what: string) =>
    new OnelaunchError('usage', `${entry.file}: ${name} is several matrices in one, and ${what}`, {
      hint: 'Use the unquantized checkpoint of this model, or one of fp8 with a scale for each row.',
    });
  if ((isTurned || zeros !== null) && (first % 8 !== 0 || rows % 8 !== 0))
    throw refuse(`rows ${first} to ${first + rows - 1} are not whole words of eight codes`);
  if (group.rows < all && first % group.rows !== 0)
    throw refuse(`row ${first}, where one begins, is within a group of ${group.rows} rows that share scales`);
  const groups = isTurned ? 1 : Math.ceil(columns / group.columns);
  const bits = (8 * entry.bytes) / (all * columns);
  const scaleLines = [
    first / group.rows,
    Math.ceil(rows / group.rows),
    bytesOf(scales.dtype, [groups]),
  ] as const;
  return {
    ...part,
    packed: {
      ...packed,
      scales: group.rows >= all ? scales : linesOf(scales, ...scaleLines),
      zeros: zeros && linesOf(zeros, first, rows, (groups * bits) / 8),
    },
  };
}
