// JSON Schemas at random, from a seed: all keywords that are followed, of sizes that a small model comes to the end of.

import { wholeNumbers } from './random.ts';

type Schema = Record<string, unknown>;

export function randomSchema(seed: number): Schema {
  const below = wholeNumbers((seed * 2654435761 + 1) >>> 0);
  const maybe = (part: Schema): Schema => (below(2) === 0 ? part : {});
  const pick = <T>(of: readonly T[]): T => of[below(of.length)]!;
  const values = [
    'a "quoted" \\ word',
    'naïve 世界',
    '',
    'two\nlines',
    7,
    -2.5,
    true,
    null,
    [1, 'x'],
    { k: [null] },
  ];
  const defs: Schema = {
    node: { type: 'object', properties: { v: { type: 'boolean' }, end: { $ref: '#/$defs/end' } } },
    end: { type: ['integer', 'null'], maximum: 9 },
  };

  const leaf = (): Schema => {
    switch (below(9)) {
      case 0:
        return { type: 'string', minLength: below(3), maxLength: 3 + below(12) };
      case 1: {
        const low = below(2000) - 1000;
        return { type: 'integer', minimum: low, ...maybe({ maximum: low + below(3000) }) };
      }
      case 2:
        return { type: 'integer', exclusiveMinimum: -below(50), exclusiveMaximum: 2 + below(500) };
      case 3: {
        const low = below(100) / 4 - 10;
        return { type: 'number', minimum: low, ...maybe({ exclusiveMaximum: low + 2 + below(40) / 8 }) };
      }
      case 4:
        return { enum: Array.from({ length: 1 + below(4) }, () => pick(values)) };
      case 5:
        return { const: pick(values) };
      case 6:
        return { type: 'string', format: pick(['date', 'time', 'date-time', 'uuid']) };
      case 7:
        return { type: pick(['boolean', 'null', 'number', 'integer']) };
      default:
        return { type: ['boolean', 'null'], description: 'either' };
    }
  };
  const some = (depth: number): Schema => {
    if (depth === 0) return leaf();
    switch (below(8)) {
      case 0:
      case 1: {
        const names = ['name', 'a b', 'say "hi"', 'c\\d', 'größe', '$ref'].slice(0, 1 + below(6));
        return {
          ...{ type: 'object', properties: Object.fromEntries(names.map((name) => [name, some(depth - 1)])) },
          ...{ required: names.filter(() => below(2) === 0) },
          ...maybe({ additionalProperties: false }),
        };
      }
      case 2:
        return { type: 'array', items: some(depth - 1), minItems: below(2), maxItems: 1 + below(3) };
      case 3:
        return {
          ...{ type: 'array', prefixItems: [some(depth - 1), leaf(), leaf()], minItems: below(4) },
          items: pick<unknown>([false, { type: 'boolean' }]),
          maxItems: 3 + below(2),
        };
      case 4:
        return { anyOf: [some(depth - 1), leaf()] };
      case 5:
        return {
          oneOf: ['x', 'y'].map((kind) => ({
            type: 'object',
            properties: { kind: { const: kind }, of: some(depth - 1) },
            required: ['kind', 'of'],
          })),
        };
      case 6:
        return { $ref: '#/$defs/node' };
      default:
        return leaf();
    }
  };
  return { ...some(3), $defs: defs };
}
