// Which texts a reply with tools may be: once a call begins, it is of a function that there is, with arguments as its parameters say.
import { inOption, OnelaunchError } from '../../errors.ts';
import {
  basicRules,
  type JsonRules,
  type JsonSchema,
  jsonRules,
  quoted,
  withLengths,
} from '../grammar/json-grammar.ts';
import { pointed } from '../grammar/keywords.ts';
import type { BoundedGrammar } from '../grammar/length-counter.ts';
import { beginApart } from '../grammar/schema-branches.ts';
import type { ToolForm } from './tool-form.ts';
import type { Calling, Tool } from './tools.ts';

/** The grammar of a reply, its thinking apart; its first rule is root.
 *  @param form as readForm makes it
 *  @throws OnelaunchError of kind usage, with the function and the place in its parameters, or in the schema, that cannot be followed */
export function toolGrammar(form: ToolForm, calling: Calling): string | BoundedGrammar {
  const { tools, required, parallel, said } = calling;
  const { open, middle, close, trigger, none } = form;
  const next = parallel ? form.next : null;
  const same = next === null ? '' : commonStart(next, close);
  const tail =
    next === null
      ? text(close)
      : `${text(same)} (${text(next.slice(same.length))} call ${text(same)})* ${text(close.slice(same.length))}`;
  const calls = (from: number) => `${text(open.slice(from))} call ${tail}`;
  const each = tools.map((tool, i) => argumentRules(tool, i));
  const json = said === null || required ? [] : [saidRules(form, said)];
  const begin = (): string[] => {
    if (required) return [`root ::= ${calls(0)}`];
    if (said !== null) return [`root ::= ${calls(0)} | ${json[0]!.root}`];
    if (trigger === null) return [`root ::= ${calls(0)} | other`, ...otherRules(open)];
    const from = open.indexOf(trigger) + trigger.length;
    const empty = none === null ? '' : ` | ${text(none.slice(from))}`;
    return [
      `root ::= TagDispatch((${quoted(trigger)}, calls), loop_after_dispatch=false)`,
      `calls ::= ${calls(from)}${empty}`,
    ];
  };
  const write = (rules: readonly (readonly string[])[]): string =>
    [
      ...begin(),
      `call ::= ${each.map((_, i) => `call${i}`).join(' | ')}`,
      ...each.map(({ root }, i) => `call${i} ::= ${text(tools[i]!.name + middle)} ${root}`),
      ...[...rules.flat(), basicRules, ''],
    ].join('\n');
  // Arguments with a text are an object, on the last line of what is before them.
  const entry = `${middle.slice(middle.lastIndexOf('\n') + 1)}{"`;
  const isAnyText = !required && said === null;
  // A name might go on as what is behind another one.
  if (/^[\w-]/.test(middle)) return write([...each, ...json].map(({ rules }) => rules));
  return withLengths([...each, ...json], write, isAnyText ? entry : null);
}

/** The form in which calls stand beside texts of a schema: at the beginning of the reply, or there are none. */
export const readForm = (form: ToolForm, { said }: Calling): ToolForm =>
  said === null ? form : { ...form, trigger: null, none: null };

const argumentRules = ({ name, parameters, index }: Tool, i: number): JsonRules =>
  inOption(
    ['tools', index, 'function', 'parameters'],
    () => jsonRules(parameters, `f${i}`),
    (message) => `the parameters of ${name}: ${message}`,
  );

/** Of the texts that are no calls. */
function saidRules({ open }: ToolForm, said: JsonSchema): JsonRules {
  const rules = inOption(['schema'], () => jsonRules(said, 's'));
  if (!/^[[{"\d\-tfn]/.test(open)) return rules;
  // Calls are JSON themselves.
  const [, name] = /^\{"(\w+)": "/.exec(open) ?? [];
  const call = name !== undefined && {
    ...{ type: 'object', properties: { [name]: { type: 'string' } }, required: [name] },
  };
  if (beginApart([said, call], (pointer) => pointed(said, pointer, '#'))) return rules;
  const begins = JSON.stringify(open);
  throw new OnelaunchError(
    'usage',
    `a text of the schema may begin as the calls of this model do, with ${begins}`,
    {
      hint: 'Give the schema a required first property of another name, or leave it or the tools out.',
      option: ['schema'],
    },
  );
}

const text = (exact: string): string => (exact === '' ? '' : quoted(exact));

function commonStart(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}

/** Texts that do not begin with this one. */
function otherRules(start: string): string[] {
  const rules = [...start].map((letter, i) => {
    const code = letter.codePointAt(0)!;
    // A class excludes no single letter beyond ASCII: there none of them goes on otherwise.
    const differs = code > 0x7f ? '\\x00-\\x7f' : `^\\x${code.toString(16).padStart(2, '0')}`;
    const goesOn = i + 1 < start.length ? ` | ${quoted(letter)} other${i + 1}` : '';
    return `other${i} ::= "" | [${differs}] rest${goesOn}`;
  });
  return ['other ::= other0', ...rules, 'rest ::= [^]*'];
}
