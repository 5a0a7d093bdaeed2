// What scales of quantised matrices lose where blocks have them in fp16, beside digits behind its eleventh.
import { readBytes, type TensorEntry } from './safetensors.ts';

/** The least number of fp16 that has all its digits, and the least that is rounded to infinity. */
const [leastWhole, endless] = [2 ** -14, 65520];

/** The largest part of itself that one loses by being small: 1 where it becomes 0. Infinity: one is too large. Those that are no numbers are left out.
 *  @param times what blocks keep is so many times the scale */
export function lostByScales(scales: TensorEntry, times: number): number {
  let most = 0;
  const numbers = numbersOf(scales);
  for (let i = 0; i < numbers.length; i++) {
    const size = Math.abs(numbers[i]!) * times;
    if (size >= endless) return Number.POSITIVE_INFINITY;
    if (!(size > 0 && size < leastWhole)) continue;
    const steps = size * 2 ** 24;
    most = Math.max(most, Math.abs(Math.round(steps) - steps) / steps);
  }
  return most;
}

/** Those of F32, and of BF16 each that occurs, of which there are few. */
function numbersOf(entry: TensorEntry): Float32Array {
  const { buffer } = readBytes(entry, 0, entry.bytes);
  if (entry.dtype === 'F32') return new Float32Array(buffer);
  const halves = new Uint16Array(buffer);
  const found = new Uint32Array(1 << 16);
  for (let i = 0; i < halves.length; i++) found[halves[i]!] = halves[i]! << 16;
  return new Float32Array(found.buffer);
}
