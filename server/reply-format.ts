// The form that chats and responses ask for: a text, any JSON object, or JSON of a schema.
import { z } from 'zod';
import { anyObject } from './body.ts';

export const textFormat = z.strictObject({ type: z.literal('text') });
export const jsonFormat = z.strictObject({ type: z.literal('json_object') });
/** A schema with its name: responses have its type beside them, chats have both apart. */
export const namedSchema = z.strictObject({
  name: z.string().max(64),
  description: z.string().nullish(),
  schema: anyObject,
  strict: z.boolean().nullish(),
});

interface Format {
  readonly type: 'text' | 'json_object' | 'json_schema';
  readonly schema?: Readonly<Record<string, unknown>>;
}

/** The JSON Schema that a reply is held to; undefined: none. */
export const schemaOf = (format: Format | undefined) =>
  format?.type === 'json_object' ? { type: 'object' } : format?.schema;
