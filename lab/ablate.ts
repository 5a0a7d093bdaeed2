// The variants of an ablation: each option of the base's scheme changed alone, and the plans that are named.
import type { FusionPlan } from '../codegen/plan/plan.ts';
import { barriers, stream, tiles } from '../codegen/plan/plan.ts';
import { optionNames, optionText, othersThan, readOption } from './option-values.ts';
import { type Choice, type Impossible, type Variant, variantOf } from './space.ts';

const defaults = { barriers, stream, tiles } as const;

/** Each option dropped to its default where the base has another value, else at other values, one at a time. */
export function optionVariants(base: FusionPlan): (Variant | Impossible)[] {
  const { kind } = base.scheme;
  const usual = new Map<string, unknown>(Object.entries(defaults[kind]()));
  const own = new Map<string, unknown>(Object.entries(base.scheme));
  const choices = optionNames(kind).flatMap((key) =>
    [usual.get(key), ...othersThan(kind, key, own.get(key))].flatMap((value): Choice[] => {
      const text = optionText(value) ?? '';
      const read = readOption(kind, key, text);
      return read === undefined ? [] : [{ key, text, is: 'option', value: read }];
    }),
  );
  return alone(base, [choices]);
}

/** Each value of each axis alone. */
export function alone(base: FusionPlan, axes: readonly (readonly Choice[])[]): (Variant | Impossible)[] {
  const variants = axes.flat().flatMap((choice) => variantOf(base, [choice]) ?? []);
  const others = variants.filter((variant) => !('plan' in variant) || variant.plan !== base);
  return [...new Map(others.map((variant) => [variant.label, variant])).values()];
}

/** Plans under their own names. */
export const namedVariants = (plans: readonly FusionPlan[]): Variant[] =>
  plans.map((plan) => ({ label: plan.name, edits: {}, plan }));
