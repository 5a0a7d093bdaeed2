// Functions that a request lets its reply call, in OpenAI's shapes.
import { z } from 'zod';
import type { ToolChoice, ToolOption } from '../runtime/chat/tools.ts';
import { listOf } from '../runtime/list-of.ts';
import type { ReplyOptions } from '../runtime/sampling.ts';
import { ApiError } from './api-error.ts';
import { anyObject, inBody } from './body.ts';

/** A function's description. What of it is wrong is said by the library, with its name. */
const described = {
  name: z.string(),
  description: z.string().nullish(),
  parameters: anyObject.nullish(),
  strict: z.boolean().nullish(),
};
const choices = z.enum(['none', 'auto', 'required']);
const expected = "expected 'none', 'auto', 'required', a function or allowed_tools";
const kind = z.literal('function', 'functions are all that is supported');
const name = z.string();
/** Of allowed_tools; functions may be described there once more. */
const mode = z.enum(['auto', 'required']);
const allowed = z.literal('allowed_tools');

/** Of chats: what is said of a function stands in `function`. */
export const chatToolShape = {
  tools: listOf(
    inBody(z.strictObject({ type: kind, function: inBody(z.strictObject(described)) })),
  ).optional(),
  tool_choice: z
    .union(
      [
        choices,
        inBody(z.strictObject({ type: kind, function: inBody(z.strictObject({ name })) })),
        inBody(
          z.strictObject({
            type: allowed,
            allowed_tools: inBody(
              z.strictObject({
                mode,
                tools: listOf(z.looseObject({ type: kind, function: z.looseObject({ name }) })).min(1),
              }),
            ),
          }),
        ),
      ],
      expected,
    )
    .optional(),
  parallel_tool_calls: z.boolean().optional(),
};

/** Of responses: it stands beside `type`. */
export const responseToolShape = {
  tools: listOf(inBody(z.strictObject({ type: kind, ...described }))).optional(),
  tool_choice: z
    .union(
      [
        choices,
        inBody(z.strictObject({ type: kind, name })),
        inBody(
          z.strictObject({
            ...{ type: allowed, mode },
            tools: listOf(z.looseObject({ type: kind, name })).min(1),
          }),
        ),
      ],
      expected,
    )
    .optional(),
  parallel_tool_calls: z.boolean().optional(),
};

interface Described {
  readonly name: string;
  readonly description?: string | null | undefined;
  readonly parameters?: Readonly<Record<string, unknown>> | null | undefined;
}

type Choice = z.infer<typeof chatToolShape.tool_choice | typeof responseToolShape.tool_choice>;

/** As the library has it. */
function toolChoiceOf(choice: Choice): ToolChoice | undefined {
  if (typeof choice !== 'object') return choice;
  const nameOf = (one: { readonly function: { readonly name: string } } | { readonly name: string }) =>
    'function' in one ? one.function.name : one.name;
  if (choice.type === 'function') return { name: nameOf(choice) };
  const { mode, tools } = 'allowed_tools' in choice ? choice.allowed_tools : choice;
  return { mode, names: tools.map(nameOf) };
}

/** @throws ApiError 400 for a choice of what is not there */
export function toolOptions(
  tools: readonly Described[],
  choice: Choice,
  parallel: boolean | undefined,
): Pick<ReplyOptions, 'tools' | 'toolChoice' | 'parallelToolCalls'> {
  const refuse = (why: string) => new ApiError(400, `tool_choice: ${why}`, { param: 'tool_choice' });
  const toolChoice = toolChoiceOf(choice);
  const named =
    typeof toolChoice === 'object' ? ('name' in toolChoice ? [toolChoice.name] : toolChoice.names) : [];
  const missing = named.find((one) => !tools.some(({ name }) => name === one));
  if (missing !== undefined) {
    throw refuse(`there is no function ${JSON.stringify(missing.slice(0, 100))} in tools`);
  }
  if (tools.length === 0) {
    if (toolChoice === 'required') throw refuse('required is for requests with tools');
    return {};
  }
  return { tools: tools.map(toolOf), toolChoice, parallelToolCalls: parallel };
}

const toolOf = ({ name, description, parameters }: Described): ToolOption => ({
  type: 'function',
  function: { name, description: description ?? undefined, parameters: parameters ?? undefined },
});
