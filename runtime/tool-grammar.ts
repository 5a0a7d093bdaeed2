// Which texts a reply with tools may be: once a call begins, it is of a function that there is, with arguments as its parameters say.
import { OnelaunchError } from '../errors.ts';
import { basicRules, jsonRules, quoted } from './json-grammar.ts';
import type { ToolForm } from './tool-form.ts';
import type { Calling, Tool } from './tools.ts';

/** The grammar of a reply, its thinking apart; its first rule is root.
 *  @throws OnelaunchError of kind usage, with the function and the place in its parameters that cannot be followed */
export function toolGrammar(form: ToolForm, { tools, required, parallel }: Calling): string {
  const { open, close, trigger, none } = form;
  const next = parallel ? form.next : null;
  const same = next === null ? '' : commonStart(next, close);
  const tail =
    next === null
      ? text(close)
      : `${text(same)} (${text(next.slice(same.length))} call ${text(same)})* ${text(close.slice(same.length))}`;
  const each = tools.map((tool, i) => callRules(tool, form, i));
  const rules = [`call ::= ${each.map((_, i) => `call${i}`).join(' | ')}`, ...each.flat(), basicRules, ''];
  const calls = (from: number) => `${text(open.slice(from))} call ${tail}`;
  if (required) return [`root ::= ${calls(0)}`, ...rules].join('\n');
  if (trigger === null) return [`root ::= ${calls(0)} | other`, ...otherRules(open), ...rules].join('\n');
  const from = open.indexOf(trigger) + trigger.length;
  const empty = none === null ? '' : ` | ${text(none.slice(from))}`;
  return [
    `root ::= TagDispatch((${quoted(trigger)}, calls), loop_after_dispatch=false)`,
    ...[`calls ::= ${calls(from)}${empty}`, ...rules],
  ].join('\n');
}

function callRules({ name, parameters }: Tool, { middle }: ToolForm, i: number): string[] {
  try {
    const { root, rules } = jsonRules(parameters, `f${i}`);
    return [`call${i} ::= ${text(name + middle)} ${root}`, ...rules];
  } catch (cause) {
    if (!(cause instanceof OnelaunchError)) throw cause;
    const message = `the parameters of ${name}: ${cause.message}`;
    throw new OnelaunchError(cause.kind, message, {
      cause,
      ...(cause.hint !== undefined && { hint: cause.hint }),
    });
  }
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
    const hex = letter.codePointAt(0)!.toString(16).padStart(4, '0');
    const goesOn = i + 1 < start.length ? ` | ${quoted(letter)} other${i + 1}` : '';
    return `other${i} ::= "" | [^\\u${hex}] rest${goesOn}`;
  });
  return ['other ::= other0', ...rules, String.raw`rest ::= [\0-\U0010ffff]*`];
}
