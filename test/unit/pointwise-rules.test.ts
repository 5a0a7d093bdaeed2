// What a pointwise op may not hold is refused with its place, its rule and what is legal.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { findOps, PointwiseError, printOps } from '../../codegen/emit/pointwise.ts';

const configs = join(packageRoot(), 'configs');
const folder = mkdtempSync(join(tmpdir(), 'pointwise-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('what cannot be printed', () => {
  const cases: Record<string, string> = {
    'a loop': 'pointwise((x: f32) => { for (const k of [1]) x += k; return x; })',
    'an assignment': 'pointwise((x: f32) => { x = 2; return x; })',
    'a missing return': 'pointwise((x: f32) => { const y = x; })',
    'a captured variable': 'pointwise((x: f32) => x + scale)',
    'an unknown call': "pointwise((x: f32) => parseInt('3') + x)",
    'an unknown constant': 'pointwise((x: f32) => x * Math.SQRT3)',
    'too many arguments': 'pointwise((x: f32) => Math.max(x, 1, 2))',
    'a parameter of another type': 'pointwise((x: number) => x)',
    'a default value': 'pointwise((x: f32 = 1) => x)',
    'another result': 'pointwise((x: f32): boolean => x > 1)',
    'a function expression': 'pointwise(function (x) { return x; })',
    'a condition as a number': 'pointwise((x: f32) => x * (x > 1))',
    'a number as a condition': 'pointwise((x: f32) => (x ? 1 : 2))',
    'an operator': 'pointwise((x: f32) => x % 2)',
    'a loose comparison': 'pointwise((x: f32) => (x == 2 ? 1 : 0))',
    'a template string': 'pointwise((x: f32) => `x`)',
    'a large number': 'pointwise((x: f32) => x * 1e39)',
    'a word of C': 'pointwise((register: f32) => register)',
    'a call of itself': 'pointwise((x: f32) => bad(x))',
  };
  const messages: string[] = [];

  test.each(Object.entries(cases))('%s is refused at its place', async (name, source) => {
    const text = `import { f32, pointwise, silu } from '${configs}/dsl.ts';\nconst scale = 2;\nexport const bad = ${source};\n`;
    const error = await refusal(write(text), join(configs, 'dsl.ts'));
    expect(error.issues).toHaveLength(1);
    messages.push(`${name}\n${error.message}`);
  });

  test('every message says where, why and what is legal', () => {
    expect(messages).toHaveLength(Object.keys(cases).length);
    expect(messages.join('\n\n')).toMatchInlineSnapshot(`
      "a loop
      ops.ts:3:44 - error unsupported-statement: 'for of statement' is not supported in a pointwise op

      3 export const bad = pointwise((x: f32) => { for (const k of [1]) x += k; return x; });
                                                   ~~~~~~~~~~~~~~~~~~~~~~~~~~~~
      Legal here: const name = value, return value, condition ? a : b.

      an assignment
      ops.ts:3:44 - error unsupported-statement: 'expression statement' is not supported in a pointwise op

      3 export const bad = pointwise((x: f32) => { x = 2; return x; });
                                                   ~~~~~~
      Legal here: const name = value, return value, condition ? a : b.

      a missing return
      ops.ts:3:44 - error unsupported-statement: an op ends with a return

      3 export const bad = pointwise((x: f32) => { const y = x; });
                                                   ~~~~~~~~~~~~
      Legal here: return value.

      a captured variable
      ops.ts:3:46 - error captured-variable: 'scale' is captured from outside the op

      3 export const bad = pointwise((x: f32) => x + scale);
                                                     ~~~~~
      Legal here: a parameter scale: f32, const scale = ... inside the op.

      an unknown call
      ops.ts:3:42 - error unknown-call: 'parseInt' has no device equivalent

      3 export const bad = pointwise((x: f32) => parseInt('3') + x);
                                                 ~~~~~~~~
      Legal here: silu, Math.abs, Math.cos, Math.exp, Math.expm1, Math.log, Math.log1p, Math.max, Math.min, Math.pow, Math.sin, Math.sqrt, Math.tanh.

      an unknown constant
      ops.ts:3:46 - error captured-variable: 'Math.SQRT3' is not known to a pointwise op

      3 export const bad = pointwise((x: f32) => x * Math.SQRT3);
                                                     ~~~~~~~~~~
      Legal here: Math.E, Math.LN2, Math.LOG2E, Math.PI, Math.SQRT1_2, Math.SQRT2.

      too many arguments
      ops.ts:3:42 - error wrong-arguments: 'Math.max' takes 2 arguments, not 3

      3 export const bad = pointwise((x: f32) => Math.max(x, 1, 2));
                                                 ~~~~~~~~~~~~~~~~~
      Legal here: Math.max(a, b).

      a parameter of another type
      ops.ts:3:31 - error parameter-type: parameter 'x: number' is not a plain f32

      3 export const bad = pointwise((x: number) => x);
                                      ~~~~~~~~~
      Legal here: x: f32.

      a default value
      ops.ts:3:31 - error parameter-type: parameter 'x: f32 = 1' is not a plain f32

      3 export const bad = pointwise((x: f32 = 1) => x);
                                      ~~~~~~~~~~
      Legal here: x: f32.

      another result
      ops.ts:3:40 - error return-type: an op returns f32, not boolean

      3 export const bad = pointwise((x: f32): boolean => x > 1);
                                               ~~~~~~~
      Legal here: f32, no annotation.

      a function expression
      ops.ts:3:30 - error not-an-arrow: 'bad' is not an arrow function

      3 export const bad = pointwise(function (x) { return x; });
                                     ~~~~~~~~~~~~~~~~~~~~~~~~~~
      Legal here: write pointwise((x: f32) => ...) in place.

      a condition as a number
      ops.ts:3:46 - error not-a-number: '(x > 1)' is true or false where a number is needed

      3 export const bad = pointwise((x: f32) => x * (x > 1));
                                                     ~~~~~~~
      Legal here: (x > 1) ? 1 : 0.

      a number as a condition
      ops.ts:3:43 - error not-a-condition: 'x' is a number where true or false is needed

      3 export const bad = pointwise((x: f32) => (x ? 1 : 2));
                                                  ~
      Legal here: x !== 0.

      an operator
      ops.ts:3:44 - error unsupported-expression: operator '%' is not supported

      3 export const bad = pointwise((x: f32) => x % 2);
                                                   ~
      Legal here: +, -, *, /, <, <=, >, >=, ===, !==, &&, ||, **.

      a loose comparison
      ops.ts:3:45 - error unsupported-expression: operator '==' is not supported

      3 export const bad = pointwise((x: f32) => (x == 2 ? 1 : 0));
                                                    ~~
      Legal here: +, -, *, /, <, <=, >, >=, ===, !==, &&, ||, **.

      a template string
      ops.ts:3:42 - error unsupported-expression: 'no substitution template literal' is not supported in a pointwise op

      3 export const bad = pointwise((x: f32) => \`x\`);
                                                 ~~~
      Legal here: numbers, parameters, + - * / **, < <= > >= === !==, && || !, condition ? a : b, Math.*.

      a large number
      ops.ts:3:46 - error literal-out-of-range: 1e39 is not a float32

      3 export const bad = pointwise((x: f32) => x * 1e39);
                                                     ~~~~
      Legal here: 0, 1.4e-45 to 3.4e38.

      a word of C
      ops.ts:3:31 - error reserved-name: 'register' cannot name anything in C

      3 export const bad = pointwise((register: f32) => register);
                                      ~~~~~~~~
      Legal here: another name of letters and digits.

      a call of itself
      ops.ts:3:42 - error recursive-call: 'bad' calls itself

      3 export const bad = pointwise((x: f32) => bad(x));
                                                 ~~~
      Legal here: code without recursion."
    `);
  });

  test('all ops of a file are reported, one issue each, in source order', async () => {
    const path = write(`
const helper = (x: f32) => x + outside;
export const good = pointwise((x: f32) => x + 1);
export const first = pointwise((x: f32) => x % 2 + y);
export const second = pointwise((x: f32) => helper(x));
export const third = pointwise((x: f32) => helper(x) * 2);
`);
    const error = await refusal(path);
    expect(error.issues.map((issue) => [issue.line, issue.column, issue.token, issue.rule])).toEqual([
      [2, 32, 'outside', 'captured-variable'],
      [4, 46, '%', 'unsupported-expression'],
    ]);
    expect(error.kind).toBe('usage');
  });

  test('an op that is not there is refused with the ones that are', async () => {
    const error = await refusal(join(configs, 'ops.ts'), undefined, ['gelu']);
    expect(error.message).toMatchInlineSnapshot(`
      "ops.ts:1:1 - error op-missing: there is no op 'gelu' in this file
      Legal here: swiglu, add."
    `);
  });

  test('a missing file is refused by name', async () => {
    await expect(findOps(join(folder, 'none.ts'))).rejects.toThrow('cannot read the op file');
  });
});

function write(text: string): string {
  const path = join(mkdtempSync(join(folder, 'ops-')), 'ops.ts');
  writeFileSync(path, text);
  return path;
}

async function refusal(path: string, dsl?: string, ops?: readonly string[]): Promise<PointwiseError> {
  const error = await printOps(path, {
    shown: 'ops.ts',
    ...(dsl ? { dsl } : {}),
    ...(ops ? { ops } : {}),
  }).catch((e) => e);
  expect(error).toBeInstanceOf(PointwiseError);
  return error;
}
