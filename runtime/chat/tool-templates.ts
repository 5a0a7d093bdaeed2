// Chat templates for models that were trained to call functions, though their own template does not say how.

interface Taught {
  /** Whether these are the model's own templates, and no other's. */
  readonly isOf: (sources: readonly string[]) => boolean;
  /** @param source the first of them */
  readonly template: (source: string) => string;
}

/** SmolLM2: functions in <tools>, calls as one list in <tool_call>, and an empty one where none is needed.
 *  Source: instructions_function_calling.md of SmolLM2-1.7B-Instruct; the wording is ours. */
const smolLm2 = String.raw`{{- '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
{{- 'You answer questions by calling functions. Call one or more of them, as the question asks. If none of them helps, or the question lacks what they need, say so instead.\n\nYou have access to the following tools:\n<tools>' }}
{{- tools | tojson }}
{{- '</tools>\n\nWrite calls in this form, and nothing else; with no call to make, write an empty list.\n<tool_call>[{"name": "func_name1", "arguments": {"argument1": "value1", "argument2": "value2"}}]</tool_call><|im_end|>\n' }}
{%- for message in messages %}
{%- if not (loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\n' + message.content }}
{%- if message.tool_calls %}
{%- for call in message.tool_calls %}
{{- ('<tool_call>[' if loop.first else ', ') + '{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}
{{- '}]</tool_call>' if loop.last else '}' }}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}`;

/** SmolLM3: its own template takes the texts of functions as xml_tools, and of a message its text alone; so calls become text before it begins.
 *  Source: chat_template.jinja of SmolLM3-3B. */
const beforeSmolLm3 = String.raw`{%- set ns = namespace(tools=[], messages=[]) %}
{%- for tool in tools %}{%- set ns.tools = ns.tools + [tool | tojson] %}{%- endfor %}
{%- for message in messages %}
{%- set said = namespace(text=message.content or '') %}
{%- for call in message.tool_calls or [] %}
{%- set said.text = said.text + '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}\n</tool_call>' %}
{%- endfor %}
{%- set ns.messages = ns.messages + [{'role': message.role, 'content': said.text}] %}
{%- endfor %}
{%- set xml_tools = ns.tools %}{%- set messages = ns.messages %}`;

const taught: readonly Taught[] = [
  {
    isOf: (sources) =>
      sources.some((source) => source.includes('named SmolLM, trained by Hugging Face')) &&
      !sources.some((source) => /\btools\b/.test(source)),
    template: () => smolLm2,
  },
  {
    isOf: ([source, ...others]) =>
      others.length === 0 && /\bxml_tools\b/.test(source ?? '') && !/\bset\s+xml_tools\b/.test(source ?? ''),
    template: (source) => beforeSmolLm3 + source,
  },
];

/** The template for conversations with tools, for a model whose own templates do not take them as `tools`. */
export function toolTemplate(sources: readonly string[]): string | null {
  return taught.find(({ isOf }) => isOf(sources))?.template(sources[0]!) ?? null;
}
