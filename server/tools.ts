// Functions that a request lets its reply call, in OpenAI's shapes.
import { z } from 'zod';
import type { ReplyOptions } from '../runtime/sampling.ts';
import type { ToolOption } from '../runtime/tools.ts';
import { ApiError } from './api-error.ts';

/** A function's description. What of it is wrong is said by the library, with its name. */
const described = {
  name: z.string(),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
};
const choices = z.enum(['none', 'auto', 'required']);
const choiceOf = "expected 'none', 'auto', 'required' or a function";
const kind = z.literal('function', 'functions are all that is supported');

/** Of chats: what is said of a function stands in `function`. */
export const chatToolShape = {
  tools: z.array(z.strictObject({ type: kind, function: z.strictObject(described) })).optional(),
  tool_choice: z
    .union(
      [choices, z.strictObject({ type: kind, function: z.strictObject({ name: z.string() }) })],
      choiceOf,
    )
    .optional(),
  parallel_tool_calls: z.boolean().optional(),
};

/** Of responses: it stands beside `type`. */
export const responseToolShape = {
  tools: z.array(z.strictObject({ type: kind, ...described })).optional(),
  tool_choice: z.union([choices, z.strictObject({ type: kind, name: z.string() })], choiceOf).optional(),
  parallel_tool_calls: z.boolean().optional(),
};

interface Described {
  readonly name: string;
  readonly description?: string | null | undefined;
  readonly parameters?: Readonly<Record<string, unknown>> | null | undefined;
}

/** @param choice the name of a function is in an object
 *  @throws ApiError 400 for a choice of what is not there */
export function toolOptions(
  tools: readonly Described[],
  choice: 'none' | 'auto' | 'required' | { readonly name: string } | undefined,
  parallel: boolean | undefined,
): Pick<ReplyOptions, 'tools' | 'toolChoice' | 'parallelToolCalls'> {
  const refuse = (why: string) => new ApiError(400, `tool_choice: ${why}`, { param: 'tool_choice' });
  if (typeof choice === 'object' && !tools.some(({ name }) => name === choice.name)) {
    throw refuse(`there is no function ${JSON.stringify(choice.name.slice(0, 100))} in tools`);
  }
  if (tools.length === 0) {
    if (choice === 'required') throw refuse('required is for requests with tools');
    return {};
  }
  const toolChoice = typeof choice === 'object' ? { name: choice.name } : choice;
  return { tools: tools.map(toolOf), toolChoice, parallelToolCalls: parallel };
}

const toolOf = ({ name, description, parameters }: Described): ToolOption => ({
  type: 'function',
  function: { name, description: description ?? undefined, parameters: parameters ?? undefined },
});
