// Chat templates for models that were trained to call functions, though their own template does not say how.

interface Taught {
  /** What the model's own template has, and no other. */
  readonly mark: string;
  readonly template: string;
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

const taught: readonly Taught[] = [{ mark: 'named SmolLM, trained by Hugging Face', template: smolLm2 }];

/** The template for conversations with tools, for a model whose own templates do not mention them. */
export function toolTemplate(sources: readonly string[]): string | null {
  if (sources.some((source) => /\btools\b/.test(source))) return null;
  return taught.find(({ mark }) => sources.some((source) => source.includes(mark)))?.template ?? null;
}
