// The report: one page of everything that was measured.
import { facts, page } from '../page/html.ts';
import { grouped, rate } from '../page/svg.ts';
import type { ReportInput } from './input.ts';
import { orderOf } from './order.ts';
import { costsIn, type Predicted, predictionsIn, predictionsOf, wanted, within } from './predict.ts';
import { colorsOf } from './sections/colors.ts';
import { conditionsSection } from './sections/conditions.ts';
import { experimentSections } from './sections/experiments.ts';
import { predictionSection } from './sections/prediction.ts';
import { qualitySection } from './sections/quality.ts';
import { roofSection } from './sections/roof.ts';
import { shortDevice, speedSections } from './sections/speed.ts';

/** What today's predictions are worth, beside all that was measured. @throws the reason of the signal */
export async function judged({ kernels, experiments }: ReportInput, signal?: AbortSignal) {
  const costs = await costsIn(experiments, signal);
  return {
    predicted: [...(await predictionsOf(kernels, signal)), ...predictionsIn(experiments, costs)],
    orders: experiments.map((one) => orderOf(one, costs)).filter((order) => order !== null),
  };
}

export function reportPage(
  input: ReportInput,
  { predicted, orders }: Awaited<ReturnType<typeof judged>>,
): string {
  const colorOf = colorsOf(input);
  return page('What onelaunch measured', [
    '<h1>What was measured</h1>',
    '<p class="lead">Kernels that onelaunch generates: how fast, beside what the memory allows, beside other systems, and what each choice of a plan is worth.</p>',
    facts(factsOf(input, predicted)),
    ...speedSections(input, colorOf),
    ...roofSection(input, colorOf),
    ...experimentSections(input.experiments),
    ...predictionSection(predicted, orders),
    ...qualitySection(input),
    ...conditionsSection(input),
  ]);
}

/** The few figures that somebody looks for first. */
function factsOf(
  { kernels, experiments }: ReportInput,
  predicted: readonly Predicted[],
): (readonly [string, string])[] {
  const decodes = kernels.flatMap(({ model, name, bench }) =>
    bench
      ? bench.decode.map((figure) => ({ ...figure, model, name, device: shortDevice(bench.device) }))
      : [],
  );
  const fastest = decodes.reduce<(typeof decodes)[number] | null>(
    (a, b) => (a === null || b.tokensPerSecond.median > a.tokensPerSecond.median ? b : a),
    null,
  );
  const nearest = decodes.reduce((most, { share }) => Math.max(most, share ?? 0), 0);
  const tried = experiments.flatMap(({ rows }) => rows);
  const timed = tried.filter(({ state }) => state === 'timed').length;
  return [
    ...(fastest
      ? [
          [
            `${rate(fastest.tokensPerSecond.median)} tok/s`,
            `${fastest.model}, ${fastest.name}, ${fastest.device}`,
          ] as const,
        ]
      : []),
    ...(nearest > 0
      ? [[`${(100 * nearest).toFixed(1)} %`, 'of the bandwidth of the target, at best'] as const]
      : []),
    ...(tried.length > 0 ? [[grouped(timed), `kernels timed, of ${grouped(tried.length)}`] as const] : []),
    ...(predicted.length > 0
      ? [
          [
            `${within(predicted, wanted)} of ${predicted.length}`,
            `predictions within ${100 * wanted} % of what was measured`,
          ] as const,
        ]
      : []),
  ];
}
