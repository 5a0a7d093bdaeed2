// What a reply is to be, as the options say it, and what is read of it in the end.
import { inOption, OnelaunchError } from '../errors.ts';
import { thinkingEnd } from './chat/thinking.ts';
import { readCalls, type ToolOption } from './chat/tools.ts';
import type { Grammar } from './grammar/grammars.ts';
import { jsonGrammar } from './grammar/json-grammar.ts';
import { isZod, jsonSchemaOf, readBy, type SchemaOption } from './grammar/json-schema.ts';
import type { BoundedGrammar } from './grammar/length-counter.ts';
import type { Readers, ReplyResult } from './reply.ts';

/** The grammar that options ask for; null: none.
 *  @throws OnelaunchError of kind usage: both are given, or a schema cannot be followed */
export function grammarOf({
  schema,
  grammar,
}: {
  readonly schema?: SchemaOption | undefined;
  readonly grammar?: Grammar | undefined;
}): Grammar | BoundedGrammar | null {
  if (schema === undefined) return grammar ?? null;
  if (grammar === undefined) {
    return inOption(['schema'], () => jsonGrammar(jsonSchemaOf(schema, 'options.schema')));
  }
  throw new OnelaunchError('usage', 'options has both schema and grammar', {
    ...{ hint: 'Give one of them.', option: ['grammar'] },
  });
}

/** How the result of a reply is read that was asked for with these options, which are those of a reply that has a result. */
export const readersOf = (
  options: () => {
    readonly schema?: SchemaOption | undefined;
    readonly tools?: readonly ToolOption[] | undefined;
  },
): Readers => ({
  json: (result) => jsonOfReply(result, options().schema),
  toolCalls: ({ toolCalls = [] }) => readCalls(toolCalls, options().tools),
});

/** What to do where a reply is no JSON, by how it ended. */
const hints = {
  stop: 'Ask for it with the option schema.',
  length: 'Give it more maxTokens.',
  context: 'Shorten the prompt, or load the model with a longer context.',
  abort: 'It was left or aborted before its end: its text() has what was said so far.',
} as const;

/** What the text of a reply is as JSON, read by the schema if it is one of zod.
 *  @throws OnelaunchError of kind failed where the reply was cut off, or is no JSON */
function jsonOfReply({ text, finish }: ReplyResult, schema: SchemaOption | undefined): unknown {
  const [, behind = text] = text.split(thinkingEnd);
  let value: unknown;
  try {
    value = JSON.parse(behind);
  } catch (cause) {
    if (finish === 'tool_calls') {
      throw new OnelaunchError('failed', 'the reply is calls of functions, and no JSON', {
        hint: 'Its toolCalls() has them.',
      });
    }
    const why = finish === 'stop' ? 'is no JSON' : `is no JSON: it ended at ${JSON.stringify(finish)}`;
    throw new OnelaunchError('failed', `the reply ${why}`, { hint: hints[finish], cause });
  }
  return schema !== undefined && isZod(schema) ? readBy(schema, value, 'the reply is') : value;
}
