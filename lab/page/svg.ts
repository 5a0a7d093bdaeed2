// SVG as text: elements, scales, ticks and axes.
import { escaped } from './html.ts';

type Value = string | number;

/** An element; numbers are written with two digits at most. */
export function element(name: string, attributes: Readonly<Record<string, Value>>, inside = ''): string {
  const text = Object.entries(attributes)
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? short(value) : escaped(value)}"`)
    .join('');
  return inside === '' ? `<${name}${text}/>` : `<${name}${text}>${inside}</${name}>`;
}

export const short = (value: number): string => String(Number(value.toFixed(2)));

export const label = (
  x: number,
  y: number,
  text: string,
  {
    anchor = 'start',
    kind = 'soft',
  }: { readonly anchor?: 'start' | 'middle' | 'end'; readonly kind?: string } = {},
): string => element('text', { x, y, 'text-anchor': anchor, class: kind }, escaped(text));

/** Width that a character takes at most, nearly. */
const characterWidth = 7;

/** A text that fits a width: of a longer one its end, which is where names differ. */
export function within(text: string, width: number): string {
  const most = Math.floor(width / characterWidth);
  return text.length <= most ? text : `…${text.slice(text.length - most + 1)}`;
}

export const line = (x1: number, y1: number, x2: number, y2: number, kind: string): string =>
  element('line', { x1, y1, x2, y2, class: kind });

/** A drawing with a title for those who do not see it. */
export const drawing = (width: number, height: number, title: string, parts: readonly string[]): string =>
  element(
    'svg',
    {
      viewBox: `0 0 ${width} ${Math.ceil(height)}`,
      width,
      height: Math.ceil(height),
      role: 'img',
      'aria-label': title,
    },
    `<title>${escaped(title)}</title>${parts.join('')}`,
  );

/** Maps [from, to] of a quantity to [low, high] of the drawing. */
export type Scale = (value: number) => number;
export const scale =
  (from: number, to: number, low: number, high: number): Scale =>
  (value) =>
    low + ((value - from) / (to - from || 1)) * (high - low);

/** Round numbers from 0 on, about `wanted` of them; the last is at least `most`. */
export function ticks(most: number, wanted = 5): readonly number[] {
  if (!(most > 0)) return [0, 1];
  const rough = most / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  const count = Math.ceil(most / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(12)));
}

/** 1,234.5 with so many digits after the point. */
export const grouped = (value: number, digits = 0): string =>
  value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A rate with as many digits as say something. */
export const rate = (value: number): string => grouped(value, value < 10 ? 2 : value < 1000 ? 1 : 0);
