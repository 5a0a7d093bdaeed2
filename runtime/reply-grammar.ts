// What a reply is to be, as the options say it, and what is read of it in the end.
import { z } from 'zod';
import { OnelaunchError } from '../errors.ts';
import { checkDepth } from '../plain-file.ts';
import type { Grammar } from './grammars.ts';
import { type JsonSchema, jsonGrammar } from './json-grammar.ts';
import type { ReplyResult } from './reply.ts';

/** JSON Schema as an object, or a schema of zod. */
export type SchemaOption = z.ZodType | { readonly [keyword: string]: unknown };

/** Ends the thinking of a reply. */
export const thinkingEnd = '</think>';

export const isSchema = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isZod = (schema: SchemaOption): schema is z.ZodType => '_zod' in schema;

/** The grammar that options ask for; null: none.
 *  @throws OnelaunchError of kind usage: both are given, or a schema cannot be followed */
export function grammarOf({
  schema,
  grammar,
}: {
  readonly schema?: SchemaOption | undefined;
  readonly grammar?: Grammar | undefined;
}): Grammar | null {
  if (schema === undefined) return grammar ?? null;
  if (grammar === undefined) return jsonGrammar(jsonSchemaOf(schema));
  throw new OnelaunchError('usage', 'options has both schema and grammar', { hint: 'Give one of them.' });
}

function jsonSchemaOf(schema: SchemaOption): JsonSchema {
  if (!isZod(schema)) {
    checkDepth(schema, 'options.schema', 'Name its parts in $defs, and refer to them.');
    return schema;
  }
  try {
    // What is asked of the model is what the schema reads, before its transforms.
    return z.toJSONSchema(schema, { io: 'input' }) as JsonSchema;
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new OnelaunchError('usage', `options.schema has no JSON Schema: ${text}`, {
      hint: 'Transforms, dates and other values that JSON does not have are not supported.',
      cause,
    });
  }
}

/** What the text of a reply is as JSON, read by the schema if it is one of zod.
 *  @throws OnelaunchError of kind failed where the reply was cut off, or is no JSON */
export function jsonOfReply({ text, finish }: ReplyResult, schema: SchemaOption | undefined): unknown {
  const [, behind = text] = text.split(thinkingEnd);
  let value: unknown;
  try {
    value = JSON.parse(behind);
  } catch (cause) {
    const why = finish === 'stop' ? 'is no JSON' : `is no JSON: it ended at ${JSON.stringify(finish)}`;
    throw new OnelaunchError('failed', `the reply ${why}`, {
      hint: finish === 'stop' ? 'Ask for it with the option schema.' : 'Give it more maxTokens.',
      cause,
    });
  }
  if (schema === undefined || !isZod(schema)) return value;
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new OnelaunchError('failed', `the reply is not as its schema: ${z.prettifyError(parsed.error)}`, {
    hint: 'A refinement of zod is no part of its JSON Schema, and cannot be followed.',
  });
}
