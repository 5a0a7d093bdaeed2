// The frame of a chart: where the plot lies, its scales, ticks and names of the axes.
import { drawing, grouped, label, line, type Scale, scale } from './svg.ts';

export interface Axis {
  readonly name: string;
  /** From the first to the last is what is drawn. */
  readonly ticks: readonly number[];
  /** Digits after the point. */
  readonly digits?: number;
}

export interface Frame {
  readonly x: Scale;
  readonly y: Scale;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** A chart of two quantities. @param inside what is drawn, given the scales. @param room right of the plot, for labels */
export function chart(
  { width, height, title, room = 26 }: { width: number; height: number; title: string; room?: number },
  xAxis: Axis,
  yAxis: Axis,
  inside: (frame: Frame) => readonly string[],
): string {
  const frame = { left: 58, right: width - room, top: 26, bottom: height - 44 };
  const x = scale(xAxis.ticks[0]!, xAxis.ticks.at(-1)!, frame.left, frame.right);
  const y = scale(yAxis.ticks[0]!, yAxis.ticks.at(-1)!, frame.bottom, frame.top);
  const text = (axis: Axis, tick: number) => grouped(tick, axis.digits ?? 0);
  return drawing(width, height, title, [
    ...yAxis.ticks.flatMap((tick) => [
      line(frame.left, y(tick), frame.right, y(tick), 'grid'),
      label(frame.left - 8, y(tick) + 4, text(yAxis, tick), { anchor: 'end' }),
    ]),
    ...xAxis.ticks.flatMap((tick) => [
      line(x(tick), frame.bottom, x(tick), frame.bottom + 4, 'axis'),
      label(x(tick), frame.bottom + 18, text(xAxis, tick), { anchor: 'middle' }),
    ]),
    line(frame.left, frame.bottom, frame.right, frame.bottom, 'axis'),
    label(frame.left - 50, 12, yAxis.name),
    label((frame.left + frame.right) / 2, height - 6, xAxis.name, { anchor: 'middle' }),
    ...inside({ ...frame, x, y }),
  ]);
}

/** From one label of a line to the next. */
const gap = 15;

/** Places for labels of one line each, as near to where they want to be as they fit, in the order given. @returns y of each */
export function spreadLabels(wanted: readonly number[], low: number, high: number): readonly number[] {
  const order = wanted.map((y, i) => ({ y, i })).sort((a, b) => a.y - b.y);
  const placed = new Array<number>(wanted.length);
  let next = low;
  for (const { y, i } of order) {
    placed[i] = Math.max(y, next);
    next = placed[i] + gap;
  }
  let last = high;
  for (const { i } of order.reverse()) {
    placed[i] = Math.min(placed[i]!, last);
    last = placed[i] - gap;
  }
  return placed;
}
