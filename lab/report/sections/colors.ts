// Colours of kernels and other systems: the same in every chart of a page.
import type { ReportInput } from '../input.ts';

export type ColorOf = (name: string) => number;

/** Of the page's colours, without the grey one of axes. */
const count = 6;

/** In the order in which they come; after the last colour they begin again. */
export function colorsOf({ kernels, peers }: ReportInput): ColorOf {
  const ours = kernels.map(({ name }) => name);
  const names = [...new Set([...ours, ...peers.flatMap(({ rows }) => rows.map(({ peer }) => peer))])];
  return (name) => Math.max(0, names.indexOf(name)) % count;
}
