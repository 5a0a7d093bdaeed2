// Functions that a reply may call: how they are described, and what is read of a call.
import { z } from 'zod';
import { inOption, OnelaunchError } from '../../errors.ts';
import { checkDepth, isPlain } from '../../files/json-text.ts';
import { plainObject } from '../../plain-object.ts';
import type { JsonSchema } from '../grammar/json-grammar.ts';
import { isZod, jsonSchemaOf, readBy, type SchemaOption, schemaOption } from '../grammar/json-schema.ts';

/** A function in the shape of OpenAI's chat completions; its parameters are JSON Schema or a schema of zod. */
export interface ToolOption {
  readonly type?: 'function' | undefined;
  readonly function: {
    /** Up to 64 letters, digits, _ and -. */
    readonly name: string;
    readonly description?: string | undefined;
    /** Of an object. @default one without properties */
    readonly parameters?: SchemaOption | undefined;
    /** Without effect: arguments always are as the parameters say. */
    readonly strict?: boolean | null | undefined;
  };
}

/** Whether a reply calls functions: as the model decides; not at all; at least one; this one; of all that it is told these alone, by either mode. */
export type ToolChoice =
  | 'auto'
  | 'none'
  | 'required'
  | { readonly name: string }
  | { readonly names: readonly string[]; readonly mode: 'auto' | 'required' };

/** A call of a function. Its arguments are as the parameters of the function say. */
export interface ToolCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: unknown;
}

/** Calls of these functions, with the types that their schemas of zod say. */
export type CallOf<Tools extends readonly ToolOption[]> = {
  [I in keyof Tools]: {
    readonly id: string;
    readonly name: Tools[I]['function']['name'];
    readonly arguments: Tools[I]['function']['parameters'] extends z.ZodType<infer Arguments>
      ? Arguments
      : unknown;
  };
}[number];

/** A function of which nothing is open. */
export interface Tool {
  readonly name: string;
  /** Which of the option's tools it is. */
  readonly index: number;
  readonly parameters: JsonSchema;
}

/** What a reply may call. */
export interface Calling {
  /** All functions, as chat templates have them. */
  readonly described: readonly object[];
  /** Those that may be called. */
  readonly tools: readonly Tool[];
  /** Whether there is at least one call. */
  readonly required: boolean;
  /** Whether there may be several. */
  readonly parallel: boolean;
  /** What a reply without calls is; null: any text. */
  readonly said: JsonSchema | null;
}

const mostTools = 128;

const toolSchema = plainObject({
  type: z.literal('function').optional(),
  function: plainObject({
    name: z.string().regex(/^[\w-]{1,64}$/, 'expected up to 64 letters, digits, _ and -'),
    description: z.string().optional(),
    parameters: schemaOption.optional(),
    strict: z.boolean().nullish(),
  }),
});
export const toolsSchema = z.array(toolSchema).min(1).max(mostTools);
export const choiceSchema = z.union(
  [
    z.literal(['auto', 'none', 'required']),
    plainObject({ name: z.string() }),
    plainObject({ names: z.array(z.string()).min(1), mode: z.literal(['auto', 'required']) }),
  ],
  "expected 'auto', 'none', 'required', { name } or { names, mode }",
);

interface Given {
  readonly tools?: readonly ToolOption[] | undefined;
  readonly toolChoice?: ToolChoice | undefined;
  readonly parallelToolCalls?: boolean | undefined;
  readonly schema?: SchemaOption | undefined;
  readonly grammar?: unknown;
}

/** What the options let a reply call; null: nothing.
 *  @throws OnelaunchError of kind usage: parameters that are of no object, a choice of what is not there, a grammar beside tools */
export function callingOf(given: Given): Calling | null {
  const { tools, toolChoice = 'auto', parallelToolCalls = true } = given;
  if (tools === undefined) {
    const alone = given.toolChoice === undefined || toolChoice === 'auto' || toolChoice === 'none';
    if (alone) return null;
    throw wrong('options.toolChoice asks for a call, and options has no tools', 'Give them as tools.', [
      'toolChoice',
    ]);
  }
  const read = tools.map(readTool);
  const all = read.map(({ tool }) => tool);
  const twice = all.find(({ name }, i) => all.findIndex((other) => other.name === name) < i);
  if (twice !== undefined) {
    throw wrong(`options.tools has two functions ${twice.name}`, 'Rename one.', nameAt(twice));
  }
  const { names: chosen, mode } = chosenOf(toolChoice);
  const named = chosen === null ? all : all.filter(({ name }) => chosen.includes(name));
  if (chosen?.some((name) => !all.some((tool) => tool.name === name))) {
    const names = all.map(({ name }) => name).join(', ');
    throw wrong('options.toolChoice names a function that is not in options.tools', `There are ${names}.`, [
      'toolChoice',
      typeof toolChoice === 'object' && 'name' in toolChoice ? 'name' : 'names',
    ]);
  }
  if (toolChoice === 'none') return null;
  if (given.grammar !== undefined) {
    throw wrong(
      'options has both tools and grammar',
      'A schema may stand beside tools; leave the grammar out, or the tools with toolChoice none.',
      ['grammar'],
    );
  }
  const { schema } = given;
  const said =
    schema === undefined ? null : inOption(['schema'], () => jsonSchemaOf(schema, 'options.schema'));
  const described = read.map((one) => one.described);
  return { described, tools: named, required: mode === 'required', parallel: parallelToolCalls, said };
}

/** The names of functions that a choice leaves, null for all, and whether one of them is called. */
function chosenOf(choice: ToolChoice): {
  readonly names: readonly string[] | null;
  readonly mode: string;
} {
  if (typeof choice === 'string') return { names: null, mode: choice };
  return 'name' in choice ? { names: [choice.name], mode: 'required' } : choice;
}

const nameAt = ({ index }: Tool) => ['tools', index, 'function', 'name'];

function readTool({ function: { name, description, parameters = {} } }: ToolOption, index: number) {
  const at = `the parameters of ${name}`;
  const option = ['tools', index, 'function', 'parameters'];
  const schema = inOption(option, () => jsonSchemaOf(parameters, at)) as {
    readonly [keyword: string]: unknown;
  };
  // Arguments are never null.
  const { $schema: _, nullable: __, ...plain } = schema;
  const { type = 'object', properties = {} } = plain;
  const elsewhere = ['anyOf', 'oneOf', 'allOf', '$ref', 'enum', 'const'].find((key) => key in plain);
  if (type !== 'object' || elsewhere !== undefined) {
    const why = elsewhere === undefined ? `of type ${JSON.stringify(type)}` : `said by ${elsewhere}`;
    throw wrong(
      `${at} are ${why}, and arguments are an object`,
      "Say type: 'object', and its properties.",
      option,
    );
  }
  // One that names nothing is told nothing.
  const none = isPlain(properties) && Object.keys(properties).length === 0;
  const whole = { type, properties, ...plain };
  const said = { name, ...(description !== undefined && { description }), parameters: whole };
  return {
    described: { type: 'function', function: said },
    tool: {
      name,
      index,
      parameters: none ? { additionalProperties: false, ...whole } : whole,
    } satisfies Tool,
  };
}

/** A function as JSON has it: parameters of zod as the JSON Schema that they say. @throws OnelaunchError of kind usage where none says them */
export function writtenTool(tool: ToolOption): ToolOption {
  const { name, parameters } = tool.function;
  if (parameters === undefined) return tool;
  const written = jsonSchemaOf(parameters, `the parameters of ${name}`) as SchemaOption;
  return { ...tool, function: { ...tool.function, parameters: written } };
}

/** Calls with the arguments that schemas of zod make of theirs.
 *  @throws OnelaunchError of kind failed where one is refused */
export function readCalls(
  calls: readonly ToolCall[],
  tools: readonly ToolOption[] | undefined,
): Promise<readonly ToolCall[]> {
  return Promise.all(
    calls.map(async (call) => {
      const { parameters } = tools?.find((tool) => tool.function.name === call.name)?.function ?? {};
      if (parameters === undefined || !isZod(parameters)) return call;
      const what = `the arguments of ${call.name} are`;
      return { ...call, arguments: await readBy(parameters, call.arguments, what) };
    }),
  );
}

const wrong = (message: string, hint: string, option: readonly (string | number)[]) =>
  new OnelaunchError('usage', message, { hint, option });

/** Messages as chat templates read them: calls of functions in OpenAI's shape, their arguments as objects.
 *  @throws OnelaunchError of kind usage for a call that has no name, or arguments that are no JSON */
export function withCalls<Message extends { readonly [key: string]: unknown }>(
  messages: readonly Message[],
): Message[] {
  return messages.map((message, i) => {
    const { toolCalls, tool_calls = toolCalls, ...others } = message;
    if (tool_calls === undefined || tool_calls === null) return message;
    const option = ['messages', i, message['tool_calls'] === undefined ? 'toolCalls' : 'tool_calls'];
    const at = option.join('.');
    const parsed = z.array(anyCall).safeParse(tool_calls);
    if (!parsed.success) {
      throw wrong(`${at}: expected { id, name, arguments }`, 'Or { id, type, function }.', option);
    }
    const calls = parsed.data.map(({ id = '', name, arguments: given }, j) => ({
      ...{ id, type: 'function' },
      function: { name, arguments: inOption([...option, j], () => argumentsOf(given, `${at}.${j}`)) },
    }));
    return { ...(others as Message), ...(calls.length > 0 && { tool_calls: calls }) };
  });
}

const id = z.string().optional();
const called = z.looseObject({ name: z.string(), arguments: z.unknown().optional() });
const anyCall = z.union([
  z.looseObject({ id, function: called }).transform((call) => ({ ...call.function, id: call.id })),
  called.extend({ id }),
]);

function argumentsOf(given: unknown, at: string): unknown {
  let value = given;
  if (typeof given === 'string') {
    try {
      value = JSON.parse(given === '' ? '{}' : given);
    } catch (cause) {
      throw new OnelaunchError('usage', `${at} has arguments that are no JSON`, {
        ...{ hint: 'Give them as the reply that called had them.', cause },
      });
    }
  }
  checkDepth(value, at, 'Arguments of a call do not nest that deep.');
  return value ?? {};
}
