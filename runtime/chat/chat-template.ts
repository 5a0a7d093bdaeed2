// A conversation as the one text that the model was trained to continue.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { OnelaunchError } from '../../errors.ts';
import { copyFromRepository, readPlainText } from '../../files/plain-file.ts';
import { isGgufFile } from '../../gguf/header.ts';
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

export interface ChatTemplate {
  (messages: readonly ChatMessage[], options?: RenderOptions): string;
  /** What another thread makes the same template of. */
  readonly source?: TemplateSource;
}

/** All that a chat template is made of. */
export interface TemplateSource {
  /** By their names: `tool_use` is for functions, and `default` for all else. One or more. */
  readonly templates: ReadonlyMap<string, Source>;
  /** Special tokens by the names that templates have for them. */
  readonly tokens: Readonly<Record<string, string>>;
}

/** The chat template of the model in a directory: chat_template.jinja with those of additional_chat_templates, else what tokenizer_config.json
 *  has. Of several with names `tool_use` is for functions, and `default` for all else, as in transformers.
 *  @throws OnelaunchError of kind usage: no template, one that cannot be read, one that refuses the messages, or one that
 *  takes more than its budget of steps and memory. */
export function chatTemplate(directory: string): ChatTemplate {
  const config = readTokenizerConfig(directory);
  const files = templateFiles(directory);
  const configPath = isGgufFile(directory) ? directory : join(directory, 'tokenizer_config.json');
  const sources = files.size > 0 ? files : namedTemplates(config, configPath);
  const [first] = sources.values();
  if (first === undefined) {
    throw new OnelaunchError(
      'usage',
      `no chat template in ${directory}: neither chat_template.jinja nor tokenizer_config.json has one`,
      {
        hint: 'A base model has none: continue a text with the complete command instead of chat.',
      },
    );
  }
  if (sources.size === 1 && first.text.trim() === '') {
    throw new OnelaunchError('usage', `the chat template in ${first.path} is empty`, {
      hint: copyFromRepository,
    });
  }
  const taught = toolTemplate([...sources.values()].map(({ text }) => text));
  const all = new Map(sources);
  if (taught !== null) all.set('tool_use', { text: taught, path: first.path });
  return templateOf({ templates: all, tokens: config.tokens });
}

/** @throws OnelaunchError of kind usage, and the template itself, as chatTemplate says */
export function templateOf(source: TemplateSource): ChatTemplate {
  const templates = new Map(
    [...source.templates].map(([name, one]) => [name, { ...one, parsed: parse(one) }]),
  );
  const render: ChatTemplate = (
    messages,
    { addGenerationPrompt = true, enableThinking, plain, tools } = {},
  ) => {
    const named = tools === undefined ? undefined : templates.get('tool_use');
    const { parsed, path } = named ?? templates.get('default') ?? [...templates.values()][0]!;
    const optional = {
      ...(enableThinking !== undefined && { enable_thinking: enableThinking }),
      ...(tools && { tools: plain === undefined ? tools : mapTexts(tools, plain) }),
    };
    try {
      const flat = messages.map((message) => {
        const whole = { ...message, content: flatten(message.content) };
        return plain === undefined ? whole : mapTexts(whole, plain);
      });
      return renderWithin(parsed, {
        ...source.tokens,
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
  return Object.assign(render, { source });
}

/** The text of a template, and the file that it stands in. */
interface Source {
  readonly text: string;
  readonly path: string;
}

/** By their names; what stands in files of its own takes the place of all that tokenizer_config.json has. */
function templateFiles(directory: string): ReadonlyMap<string, Source> {
  const folder = join(directory, 'additional_chat_templates');
  const isFolder = existsSync(folder) && statSync(folder).isDirectory();
  const names = isFolder ? readdirSync(folder).sort() : [];
  const paths = [
    ['default', join(directory, 'chat_template.jinja')] as const,
    ...names
      .filter((name) => name.endsWith('.jinja'))
      .map((name) => [basename(name, '.jinja'), join(folder, name)] as const),
  ].filter(([, path]) => existsSync(path));
  // A character has up to four bytes.
  const read = (path: string) => readPlainText(path, 4 * mostCharacters, copyFromRepository);
  return new Map(paths.map(([name, path]) => [name, { path, text: read(path) }]));
}

function namedTemplates(
  { chatTemplate: stated }: TokenizerConfig,
  path: string,
): ReadonlyMap<string, Source> {
  if (stated === undefined) return new Map();
  const named = typeof stated === 'string' ? [{ name: 'default', template: stated }] : stated;
  return new Map(named.map(({ name, template: text }) => [name, { text, path }]));
}

const compare = "Compare with the template in the model's own repository, or use the complete command.";

function parse({ text: source, path }: Source): Template {
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
