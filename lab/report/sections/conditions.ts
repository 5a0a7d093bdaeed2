// Under which conditions all of it was measured, and in which files it is.
import { htmlTable } from '../../page/html.ts';
import type { ReportInput } from '../input.ts';

export function conditionsSection({ kernels, experiments, peers }: ReportInput): string[] {
  const benches = kernels.flatMap(({ file, kernel, bench }) =>
    bench
      ? [
          [
            ...[
              kernel,
              bench.date,
              { wrap: bench.device },
              { wrap: bench.state },
              { wrap: `${bench.weights} weights, ${bench.runs} runs of ${bench.tokens} tokens` },
            ],
            ...[bench.hash, { wrap: file }],
          ],
        ]
      : [],
  );
  const journals = experiments.map(({ file, header, runs }) => {
    const run = runs.findLast((one) => one.device !== null) ?? runs.at(-1);
    const how = `${header.weights} weights, ${header.rounds} rounds of ${header.tokens} tokens`;
    return [
      ...[
        `gen ${header.command}`,
        run?.date.slice(0, 10) ?? null,
        { wrap: run?.device ?? 'not run yet' },
        { wrap: run?.cpu ?? '' },
      ],
      ...[{ wrap: how }, header.base, { wrap: file }],
    ];
  });
  const others = peers.map(({ file, device, date, model }) => [
    'other systems',
    date,
    { wrap: device },
    null,
    { wrap: model },
    null,
    { wrap: file },
  ]);
  const rows = [...benches, ...journals, ...others];
  if (rows.length === 0) return [];
  return [
    '<h2>Conditions</h2>',
    '<p>State of the machine before and after. The hash is of the sources that were measured.</p>',
    htmlTable(
      [
        '',
        'date',
        { wrap: 'device' },
        { wrap: 'machine' },
        { wrap: 'measured' },
        'sources',
        { wrap: 'file' },
      ],
      rows,
    ),
  ];
}
