// A schema as the caller gives it: JSON Schema as an object, or a schema of zod.
import { z } from 'zod';
import { OnelaunchError } from '../../errors.ts';
import { copyOfJson, isPlain } from '../../files/json-text.ts';
import { copyArgument, readArgument } from '../engine/arguments.ts';
import type { JsonSchema } from './json-grammar.ts';

/** JSON Schema as an object, or a schema of zod. */
export type SchemaOption = z.ZodType | { readonly [keyword: string]: unknown };

/** Whether it is a plain object, or of a library that makes schemas. */
const isSchema = (value: unknown): boolean =>
  isPlain(value) ||
  (typeof value === 'object' &&
    value !== null &&
    ['_zod', '_def', '~standard'].some((mark) => mark in value));

export const schemaOption: z.ZodType<SchemaOption> = z
  .custom<SchemaOption>(isSchema, 'expected a JSON Schema, or a schema of zod')
  .transform(ownSchema);

export const isZod = (schema: SchemaOption): schema is z.ZodType => '_zod' in schema;

/** A copy of a JSON Schema, which its caller may change. What is no JSON stays as it is, and is refused with its name where it is followed. */
function ownSchema(schema: SchemaOption): SchemaOption {
  if (isZod(schema) || makerOf(schema) !== null) return schema;
  try {
    return copyOfJson(schema, '', '');
  } catch {
    return schema;
  }
}

/** The schema as JSON Schema: of one of zod, what it reads, before its transforms. @param name of it, for people
 *  @throws OnelaunchError of kind usage: it nests too deep, or has values that JSON does not have */
export const jsonSchemaOf = (schema: SchemaOption, name: string): JsonSchema =>
  readArgument(name, () => readSchema(schema, name));

function readSchema(schema: SchemaOption, name: string): JsonSchema {
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
    return copyArgument(name, schema, 'Name its parts in $defs, and refer to them.');
  }
  try {
    return z.toJSONSchema(schema, { io: 'input', override: withoutFormat }) as JsonSchema;
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new OnelaunchError('usage', `${name} has no JSON Schema: ${text}`, {
      hint: 'Transforms, dates and other values that JSON does not have are not supported.',
      cause,
    });
  }
}

/** Of zod the pattern of a text says all of its format. */
function withoutFormat({ jsonSchema }: { readonly jsonSchema: { pattern?: string; format?: string } }): void {
  if (jsonSchema.pattern !== undefined) delete jsonSchema.format;
}

/** Which library made a schema that is an object of its own; null for plain JSON. */
function makerOf(schema: SchemaOption): string | null {
  const { '~standard': standard, _def: definition } = schema as { readonly [key: string]: unknown };
  const { vendor } = Object(standard) as { readonly vendor?: unknown };
  // What zod makes as JSON Schema says by a hidden key of whom it is.
  if (vendor === 'zod' && isPlain(schema)) return null;
  if (definition !== undefined && (vendor === undefined || vendor === 'zod')) return 'zod 3';
  return standard === undefined ? null : String(vendor);
}

/** What a schema of zod makes of a value. @param what the value is, as the beginning of a sentence
 *  @throws OnelaunchError of kind failed where it is refused, or a function of the schema throws */
export async function readBy(schema: z.ZodType, value: unknown, what: string): Promise<unknown> {
  const parsed = await schema.safeParseAsync(value).catch((cause: unknown) => {
    const why = String(cause instanceof Error ? cause.message : cause).split('\n')[0];
    throw new OnelaunchError('failed', `${what} not read by its schema: ${why}`, {
      hint: 'A refinement or a transform of it throws.',
      cause,
    });
  });
  if (parsed.success) return parsed.data;
  throw new OnelaunchError('failed', `${what} not as its schema: ${z.prettifyError(parsed.error)}`, {
    hint: 'A refinement of zod is no part of its JSON Schema, and cannot be followed.',
  });
}
