// A conversation as the one text that the model was trained to continue.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { OnelaunchError } from '../../errors.ts';
import { copyFromRepository, readPlainText } from '../../plain-file.ts';
import { readTokenizerConfig, type TokenizerConfig } from '../tokenizer/config.ts';
import { OverBudget, renderWithin } from './template-budget.ts';
import { toolTemplate } from './tool-templates.ts';

/** A message in the shape of OpenAI's chat completions. Keys that a template knows beyond these are passed on. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: string | readonly ContentPart[] | null | undefined;
  readonly [key: string]: unknown;
}
/** One of the parts of a message: models take texts alone. */
export interface ContentPart {
  readonly type: string;
  readonly text?: string;
}

interface RenderOptions {
  /** End with the opening of the assistant's reply; default true. */
  readonly addGenerationPrompt?: boolean;
  /** Qwen3: false closes the thinking block at once. Not passed on when left out. */
  readonly enableThinking?: boolean | undefined;
  /** Makes a text of the messages one in which no special token is found (`plain` of a tokenizer); default: as it is. */
  readonly plain?: ((text: string) => string) | undefined;
  /** Functions the model may call, in OpenAI's shape. */
  readonly tools?: readonly unknown[] | undefined;
}

/** Length of a template [characters], and of a run of spaces in it: parsing costs their product. */
const mostCharacters = 500_000;
const mostSpaces = 1000;

export type ChatTemplate = (messages: readonly ChatMessage[], options?: RenderOptions) => string;

/** The chat template of the model in a directory: chat_template.jinja, else the one in tokenizer_config.json.
 *  @throws OnelaunchError of kind usage: no template, one that cannot be read, one that refuses the messages, or one that
 *  takes more than its budget of steps and memory. */
export function chatTemplate(directory: string): ChatTemplate {
  const jinja = join(directory, 'chat_template.jinja');
  const config = readTokenizerConfig(directory);
  const isFile = existsSync(jinja);
  const path = isFile ? jinja : join(directory, 'tokenizer_config.json');
  // A character has up to four bytes.
  const sources = isFile
    ? { default: readPlainText(jinja, 4 * mostCharacters, copyFromRepository) }
    : namedTemplates(config);
  const templates = new Map(Object.entries(sources).map(([name, source]) => [name, parse(source, path)]));
  const whole = templates.size === 1 ? Object.values(sources)[0] : undefined;
  if (whole?.trim() === '') {
    throw new OnelaunchError('usage', `the chat template in ${path} is empty`, { hint: copyFromRepository });
  }
  const added = toolTemplate(Object.values(sources));
  if (added !== null) templates.set('tool_use', parse(added, path));
  if (templates.size === 0) {
    throw new OnelaunchError(
      'usage',
      `no chat template in ${directory}: neither chat_template.jinja nor tokenizer_config.json has one`,
      {
        hint: 'A base model has none: continue a text with the complete command instead of chat.',
      },
    );
  }
  return (messages, { addGenerationPrompt = true, enableThinking, plain, tools } = {}) => {
    const named = tools === undefined ? undefined : templates.get('tool_use');
    const template = named ?? templates.get('default') ?? [...templates.values()][0]!;
    const optional = {
      ...(enableThinking !== undefined && { enable_thinking: enableThinking }),
      ...(tools && { tools: plain === undefined ? tools : mapTexts(tools, plain) }),
    };
    try {
      const flat = messages.map((message) => {
        const whole = { ...message, content: flatten(message.content) };
        return plain === undefined ? whole : mapTexts(whole, plain);
      });
      return renderWithin(template, {
        ...config.tokens,
        messages: flat,
        add_generation_prompt: addGenerationPrompt,
        ...optional,
      });
    } catch (cause) {
      if (cause instanceof OnelaunchError) throw cause;
      if (cause instanceof OverBudget) {
        throw new OnelaunchError(
          'usage',
          `the chat template in ${path} is not run to its end: ${cause.message}`,
          {
            hint: compare,
          },
        );
      }
      const text = String(cause instanceof Error ? cause.message : cause).split('\n')[0];
      throw new OnelaunchError('usage', `the chat template refuses these messages: ${text}`, {
        hint: 'Most templates want an optional system message, then user and assistant in turn.',
        cause,
      });
    }
  };
}

function namedTemplates({ chatTemplate: stated }: TokenizerConfig): Record<string, string> {
  if (stated === undefined) return {};
  if (typeof stated === 'string') return { default: stated };
  return Object.fromEntries(stated.map(({ name, template }) => [name, template]));
}

const compare = "Compare with the template in the model's own repository, or use the complete command.";

function parse(source: string, path: string): Template {
  const refuse = (why: string, cause?: unknown) =>
    new OnelaunchError('usage', `the chat template in ${path} cannot be read: ${why}`, {
      hint: compare,
      cause,
    });
  if (source.length > mostCharacters) {
    throw refuse(`it has ${source.length} characters, more than ${mostCharacters}`);
  }
  for (const [spaces] of source.matchAll(/\s+/g)) {
    if (spaces.length > mostSpaces) throw refuse(`it has ${spaces.length} spaces in a row`);
  }
  try {
    // As Jinja does: whatever ends a line of the file, the text has \n.
    return new Template(source.replace(/\r\n?/g, '\n'));
  } catch (cause) {
    if (cause instanceof RangeError) throw refuse('it nests too deep', cause);
    throw refuse(String(cause instanceof Error ? cause.message : cause).split('\n')[0]!, cause);
  }
}

/** The value with all its texts changed, names of its members too. */
function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, change));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [change(key), mapTexts(item, change)]),
  );
}

/** Templates call string methods on the content, so it has to be a string: parts are joined, null is empty. */
function flatten(content: ChatMessage['content']): string {
  if (content === null || content === undefined) return '';
  if (typeof content === 'string') return content;
  return content
    .map((part) => {
      if (part.type === 'text' && typeof part.text === 'string') return part.text;
      throw new OnelaunchError(
        'usage',
        `a message has a content part of type ${JSON.stringify(part.type)}, supported: "text"`,
        {
          hint: 'The models that onelaunch runs read text only.',
        },
      );
    })
    .join('');
}
