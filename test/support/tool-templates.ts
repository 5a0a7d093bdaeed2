// Chat templates that write calls as models do, without what else is in theirs.

/** Llama 3.2: one call, without a mark; `parameters` in the place of `arguments`; results are of the role ipython. */
export const llama32 = String.raw`{{- bos_token }}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}
{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}
{{- system + '<|eot_id|>' }}
{%- if tools is not none %}
{%- set asked = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}
{{- '<|start_header_id|>user<|end_header_id|>\n\nAnswer with a call of one of these functions.\n\n' }}
{%- for t in tools %}{{- t | tojson(indent=4) }}{{- '\n\n' }}{%- endfor %}
{{- asked + '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
{%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
{%- elif 'tool_calls' in message %}
{%- if not message.tool_calls | length == 1 %}{{- raise_exception('one call at once') }}{%- endif %}
{%- set call = message.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{{- '{"name": "' + call.name + '", ' }}{{- '"parameters": ' }}{{- call.arguments | tojson }}{{- '}' }}{{- '<|eot_id|>' }}
{%- else %}
{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' }}{{- message.content | tojson }}{{- '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}`;

/** Of models that call nothing. */
export const withoutTools =
  "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";

/** SmolLM2's own, which knows no tools. */
export const smolLm2 =
  "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/** SmolLM3: functions under another name, of messages their text, and thinking told apart. */
export const smolLm3 = String.raw`{%- if messages[0].role == 'system' -%}{%- set told = messages[0].content -%}{%- else -%}{%- set told = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face.' -%}{%- endif -%}
{{- '<|im_start|>system\n' + told + '\n' -}}
{%- if xml_tools -%}{%- set ns = namespace(text='<tools>\n') -%}{%- for tool in xml_tools[:] -%}{%- set ns.text = ns.text ~ (tool | string) ~ '\n' -%}{%- endfor -%}{{- ns.text + '</tools>' -}}{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- for message in messages -%}
{%- set content = message.content if message.content is string else '' -%}
{%- if message.role == 'user' -%}
    {{ '<|im_start|>user\n' + content + '<|im_end|>\n' }}
{%- elif message.role == 'assistant' -%}
    {% generation %}
    {{ '<|im_start|>assistant\n' + content.lstrip('\n') + '<|im_end|>\n' }}
    {% endgeneration %}
{%- elif message.role == 'tool' -%}
{{ '<|im_start|>user\n' + content + '<|im_end|>\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}`;

/** Calls in the form of Qwen3, for the bundled model. */
export const hermes = String.raw`{%- if tools %}{{- '<|im_start|>system\nFunctions: ' }}{%- for tool in tools %}{{- tool | tojson + '\n' }}{%- endfor %}{{- '<|im_end|>\n' }}{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- ('\n' if message.content or not loop.first else '') + '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}{{- call.function.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}`;
