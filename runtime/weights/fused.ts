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

/** Some rows of a matrix, as if they were stored alone. */
function rowsOf(name: string, entry: TensorEntry, first: number, rows: number): TensorEntry {
  const { shape, packed, offset } = entry;
  const rowBytes = entry.bytes / shape[0]!;
  const part = {
    ...entry,
    shape: [rows, shape[1]!],
    offset: offset + first * rowBytes,
    bytes: rows * rowBytes,
  };
  if (packed === undefined) return part;
  const refuse = (what: string) =>
    new OnelaunchError('usage', `${entry.file}: ${name} is several matrices in one, and ${what}`, {
      hint: 'Use the unquantized checkpoint of this model, or one of fp8 or of compressed-tensors.',
    });
  // Codes of GPTQ and AWQ lie column by column.
  if (/^(GPTQ|AWQ) /.test(entry.dtype)) throw refuse(`rows of ${entry.dtype} are not read apart`);
  const { scales, zeros, group } = packed;
  if (zeros !== null) throw refuse('its zero points are not read apart');
  if (group.rows >= shape[0]!) return { ...part, packed };
  if (first % group.rows !== 0)
    throw refuse(`row ${first}, where one begins, is within a group of ${group.rows} rows that share scales`);
  const line = Math.ceil(shape[1]! / group.columns);
  const lines = (count: number) => bytesOf(scales.dtype, [count, line]);
  const ofPart = {
    ...scales,
    shape: [Math.ceil(rows / group.rows), line],
    offset: scales.offset + lines(first / group.rows),
    bytes: lines(Math.ceil(rows / group.rows)),
  };
  return { ...part, packed: { ...packed, scales: ofPart } };
}
