// Numbers within bounds as a grammar: their decimal texts.

/** Digits of a number, such that a double tells it from its neighbours: the largest that is made has so many. */
const mostDigits = 15;
export const mostNumber: number = 10 ** mostDigits - 1;

export interface Bounds {
  readonly low: number;
  readonly high: number;
  /** Whether low and high themselves are outside. */
  readonly above: boolean;
  readonly below: boolean;
}

/** The whole numbers within bounds; null: there is none. */
export function integers(bounds: Bounds): string | null {
  const low = Math.ceil(bounds.low) + Number(bounds.above && Number.isInteger(bounds.low));
  const high = Math.floor(bounds.high) - Number(bounds.below && Number.isInteger(bounds.high));
  return low > high ? null : signed(low, high).join(' | ');
}

/** Numbers within bounds: the whole ones, and fractions between two of them; null: there is no whole one. */
export function numbers(bounds: Bounds): string | null {
  const { low, high } = bounds;
  const fraction = ' "." [0-9]{0,13} [1-9]';
  const fractions = (from: number, to: number, sign: string) =>
    from > to ? [] : naturals(from, to).map((one) => `${sign}${one}${fraction}`);
  const parts = [
    ...fractions(Math.max(0, Math.ceil(low)), Math.floor(high) - 1, ''),
    ...fractions(Math.max(0, Math.ceil(-high)), Math.floor(-low) - 1, '"-" '),
  ];
  const first = Math.ceil(low) + Number(bounds.above && Number.isInteger(low));
  const last = Math.floor(high) - Number(bounds.below && Number.isInteger(high));
  if (first <= last) parts.unshift(...signed(first, last));
  return parts.length === 0 ? null : parts.join(' | ');
}

function signed(low: number, high: number): string[] {
  const negative = low < 0 ? [`"-" (${naturals(Math.max(1, -high), -low).join(' | ')})`] : [];
  return [...negative, ...(high >= 0 ? naturals(Math.max(0, low), high) : [])];
}

/** Decimal texts of the numbers from low to high, both at least 0: by their number of digits, and each digit by what is left of the bounds. */
function naturals(low: number, high: number): string[] {
  const found: string[] = [];
  const whole: number[] = []; // lengths of which all numbers are within
  for (let digits = 1; digits <= String(high).length; digits++) {
    const [least, most] = [digits === 1 ? 0 : 10 ** (digits - 1), 10 ** digits - 1];
    const [from, to] = [Math.max(low, least), Math.min(high, most)];
    if (from === least && to === most && digits > 1) whole.push(digits);
    else if (from <= to) found.push(between(String(from), String(to)));
  }
  if (whole.length > 0) found.push(`[1-9] [0-9]{${whole[0]! - 1},${whole.at(-1)! - 1}}`);
  return found;
}

/** Texts of as many digits as both bounds have, from one to the other. Branches differ in their first digit. */
function between(low: string, high: string): string {
  const [first, last] = [Number(low[0]), Number(high[0])];
  const rest = low.length - 1;
  const [none, all] = ['0'.repeat(rest), '9'.repeat(rest)];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  const any = (from: number, to: number) => `[${from}-${to}]${rest > 0 ? ` [0-9]{${rest}}` : ''}`;
  if (lowRest === none && highRest === all) return any(first, last);
  if (first === last) return `"${first}" ${between(lowRest, highRest)}`;
  const branches: string[] = [];
  const [begin, end] = [lowRest === none ? first : first + 1, highRest === all ? last : last - 1];
  if (begin > first) branches.push(`"${first}" ${between(lowRest, all)}`);
  if (begin <= end) branches.push(any(begin, end));
  if (end < last) branches.push(`"${last}" ${between(none, highRest)}`);
  return `(${branches.join(' | ')})`;
}
