// What scales of quantised matrices lose where blocks have them in fp16, beside digits behind its eleventh.
import { readBytes, type TensorEntry } from './safetensors.ts';

/** The least number of fp16 that has all its digits, and the least that is rounded to infinity. */
const [leastWhole, endless] = [2 ** -14, 65520];

/** The largest part of itself that one loses by being small: 1 where it becomes 0. Infinity: one is too large. Those that are no numbers are left out.
 *  @param times what blocks keep is so many times the scale */
export function lostByScales(scales: TensorEntry, times: number): number {
  let most = 0;
  for (const scale of numbersOf(scales)) {
    const size = Math.abs(scale) * times;
    if (size >= endless) return Number.POSITIVE_INFINITY;
    if (!(size > 0 && size < leastWhole)) continue;
    const steps = size * 2 ** 24;
    most = Math.max(most, Math.abs(Math.round(steps) - steps) / steps);
  }
  return most;
}

/** Numbers of BF16 or F32. */
function numbersOf(entry: TensorEntry): Float32Array {
  const { buffer } = readBytes(entry, 0, entry.bytes);
  if (entry.dtype === 'F32') return new Float32Array(buffer);
  return new Float32Array(Uint32Array.from(new Uint16Array(buffer), (bits) => bits << 16).buffer);
}
