// A schema as the caller gives it: JSON Schema as an object, or a schema of zod.
import { z } from 'zod';
import { OnelaunchError } from '../../errors.ts';
import { checkDepth } from '../../json-text.ts';
import type { JsonSchema } from './json-grammar.ts';

/** JSON Schema as an object, or a schema of zod. */
export type SchemaOption = z.ZodType | { readonly [keyword: string]: unknown };

export const isSchema = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const isZod = (schema: SchemaOption): schema is z.ZodType => '_zod' in schema;

/** The schema as JSON Schema: of one of zod, what it reads, before its transforms. @param name of it, for people
 *  @throws OnelaunchError of kind usage: it nests too deep, or has values that JSON does not have */
export function jsonSchemaOf(schema: SchemaOption, name: string): JsonSchema {
  if (!isZod(schema)) {
    const maker = makerOf(schema);
    if (maker !== null) {
      throw new OnelaunchError(
        'usage',
        `${name}: a schema of ${maker}, and neither JSON Schema nor one of zod 4`,
        {
          hint: "Give its JSON Schema; zod 3 since 3.25 has zod 4 as 'zod/v4'.",
        },
      );
    }
    checkDepth(schema, name, 'Name its parts in $defs, and refer to them.');
    return schema;
  }
  try {
    return z.toJSONSchema(schema, { io: 'input' }) as JsonSchema;
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new OnelaunchError('usage', `${name} has no JSON Schema: ${text}`, {
      hint: 'Transforms, dates and other values that JSON does not have are not supported.',
      cause,
    });
  }
}

/** Which library made a schema that is an object of its own; null for plain JSON. */
function makerOf(schema: SchemaOption): string | null {
  const { '~standard': standard, _def: definition } = schema as { readonly [key: string]: unknown };
  const { vendor } = Object(standard) as { readonly vendor?: unknown };
  if (definition !== undefined && (vendor === undefined || vendor === 'zod')) return 'zod 3';
  return standard === undefined ? null : String(vendor);
}

/** What a schema of zod makes of a value. @param what the value is, as the beginning of a sentence
 *  @throws OnelaunchError of kind failed where it is refused */
export function readBy(schema: z.ZodType, value: unknown, what: string): unknown {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new OnelaunchError('failed', `${what} not as its schema: ${z.prettifyError(parsed.error)}`, {
    hint: 'A refinement of zod is no part of its JSON Schema, and cannot be followed.',
  });
}
