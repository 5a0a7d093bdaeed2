// Which variants are not worth a build, by what is predicted of them; nothing is ranked by what nobody has measured.
import type { VariantRecord } from './journal-records.ts';

/** Geometric mean; null where a value is. */
export function meanOf(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  if (known.length < values.length || known.length === 0) return null;
  return Math.exp(known.reduce((sum, value) => sum + Math.log(value), 0) / known.length);
}

/** Why no prediction is used; null: they can be. */
export function whyNotPredicted(variants: readonly VariantRecord[]): string | null {
  const unmeasured = [...new Set(variants.flatMap((one) => one.unmeasured))];
  if (unmeasured.length > 0) {
    const [first, second, ...others] = unmeasured;
    const named =
      others.length > 1 ? `${first}, ${second} and ${others.length} others` : unmeasured.join(', ');
    return `nobody has measured the ${named} of this target (gen calibrate does)`;
  }
  const isKnown = variants.every(({ predicted }) => meanOf(predicted) !== null);
  return isKnown ? null : 'no speed is predicted for this target';
}

/**
 * The variants, those marked that are predicted to be more than `factor` times slower than the best; never the first, which is the base.
 * The others are in the order of their predictions.
 */
export function pruned(variants: readonly VariantRecord[], factor: number | null): readonly VariantRecord[] {
  if (whyNotPredicted(variants) !== null) return variants;
  const rateOf = ({ predicted }: VariantRecord) => meanOf(predicted)!;
  const best = Math.max(...variants.map(rateOf));
  const [base, ...others] = variants;
  const marked = others.map((variant) => {
    const times = best / rateOf(variant);
    if (factor === null || times <= factor) return variant;
    return { ...variant, pruned: `predicted ${times.toFixed(2)} times slower than the best` };
  });
  return [base!, ...marked.sort((a, b) => rateOf(b) - rateOf(a))];
}
