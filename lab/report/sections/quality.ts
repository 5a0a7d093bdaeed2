// Whether the kernels compute the model: against the reference, and over real text.
import { htmlTable } from '../../page/html.ts';
import type { ReportInput } from '../input.ts';

export function qualitySection({ kernels }: ReportInput): string[] {
  const verified = kernels.flatMap(({ kernel, verify }) => (verify ? [{ kernel, ...verify }] : []));
  const texts = kernels.flatMap(({ kernel, quality }) => quality.map((one) => ({ kernel, ...one })));
  if (verified.length + texts.length === 0) return [];
  return [
    '<h2>Right before fast</h2>',
    ...(verified.length > 0
      ? [
          '<p>Logits of each kernel against those of the reference. What is allowed follows from the number formats: how far a right kernel may be off by its roundings.</p>',
          htmlTable(
            ['kernel', '', { number: 'largest error' }, { number: 'allowed' }, { wrap: 'reference' }, 'date'],
            verified.map(({ kernel, ok, worst, allowed, source, date }) => [
              ...[kernel, ok ? 'pass' : 'FAIL', { number: worst.toFixed(3) }, { number: allowed.toFixed(3) }],
              ...[{ wrap: source }, date],
            ]),
          ),
        ]
      : []),
    ...(texts.length > 0
      ? [
          '<p>Distributions over real text against those of the float32 reference.</p>',
          htmlTable(
            [
              'kernel',
              { wrap: 'text' },
              { number: 'tokens' },
              { number: 'KL' },
              { number: 'same first' },
              { number: 'perplexity' },
              { number: 'of the reference' },
            ],
            texts.map(({ kernel, text, tokens, kl, top1, nll }) => [
              ...[kernel, { wrap: text }, { number: String(tokens) }, { number: kl.toExponential(2) }],
              ...[{ number: `${(100 * top1).toFixed(2)} %` }, { number: Math.exp(nll.ours).toFixed(4) }],
              { number: Math.exp(nll.reference).toFixed(4) },
            ]),
          ),
        ]
      : []),
  ];
}
