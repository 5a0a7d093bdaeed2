// Prints one expression of a pointwise op as C, with the parentheses that C needs.

import type * as Morph from 'ts-morph';
import { cFloat } from './c-text.ts';

export type PointwiseRule =
  | 'not-an-arrow'
  | 'parameter-type'
  | 'return-type'
  | 'unsupported-statement'
  | 'unsupported-expression'
  | 'captured-variable'
  | 'unknown-call'
  | 'wrong-arguments'
  | 'not-a-number'
  | 'not-a-condition'
  | 'literal-out-of-range'
  | 'reserved-name'
  | 'recursive-call'
  | 'op-missing';

/** A float, or a C++ bool. */
export type Kind = 'number' | 'condition';
/** What the names in sight are. */
type Scope = ReadonlyMap<string, Kind>;

/** A C expression, how tightly its outermost operator binds, and what it is. */
interface Printed {
  readonly text: string;
  readonly level: number;
  readonly kind: Kind;
}

/** Reports an issue at a node and leaves the op. */
export type Refuse = (node: Morph.Node, rule: PointwiseRule, why: string, legal: readonly string[]) => never;

/** The functions of the user's files that an expression may call. */
export interface Calls {
  readonly find: (callee: Morph.Node) => { readonly c: string; readonly parameters: number } | undefined;
  readonly names: (from: Morph.SourceFile) => readonly string[];
}

/** A printer of expressions: `number` refuses conditions, `print` takes both. */
export function expressionPrinter(Node: (typeof Morph)['Node'], refuse: Refuse, calls: Calls) {
  return { number, print };

  function number(node: Morph.Node, scope: Scope): Printed {
    const value = print(node, scope);
    if (value.kind !== 'number') {
      refuse(node, 'not-a-number', `'${node.getText()}' is true or false where a number is needed`, [
        `${node.getText()} ? 1 : 0`,
      ]);
    }
    return value;
  }

  function condition(node: Morph.Node, scope: Scope): Printed {
    const value = print(node, scope);
    if (value.kind !== 'condition') {
      refuse(node, 'not-a-condition', `'${node.getText()}' is a number where true or false is needed`, [
        `${node.getText()} !== 0`,
      ]);
    }
    return value;
  }

  function print(node: Morph.Node, scope: Scope): Printed {
    if (Node.isParenthesizedExpression(node)) return print(node.getExpression(), scope);
    if (Node.isNumericLiteral(node)) return printLiteral(node);
    if (Node.isIdentifier(node)) return printName(node, scope);
    if (Node.isPropertyAccessExpression(node)) return printMathConstant(node);
    if (Node.isPrefixUnaryExpression(node)) return printUnary(node, scope);
    if (Node.isBinaryExpression(node)) return printBinary(node, scope);
    if (Node.isConditionalExpression(node)) return printConditional(node, scope);
    if (Node.isCallExpression(node)) return printCall(node, scope);
    return refuse(
      node,
      'unsupported-expression',
      `${describe(node)} is not supported in a pointwise op`,
      EXPRESSIONS,
    );
  }

  function printLiteral(node: Morph.NumericLiteral): Printed {
    const value = literalValue(node);
    if (!(Math.abs(Math.fround(value)) <= GREATEST) || (value !== 0 && Math.fround(value) === 0)) {
      refuse(node, 'literal-out-of-range', `${node.getText()} is not a float32`, ['0', '1.4e-45 to 3.4e38']);
    }
    return { text: cFloat(value), level: ATOM, kind: 'number' };
  }

  function printName(node: Morph.Identifier, scope: Scope): Printed {
    const name = node.getText();
    const kind = scope.get(name);
    if (kind) return { text: name, level: ATOM, kind };
    return refuse(node, 'captured-variable', `'${name}' is captured from outside the op`, [
      `a parameter ${name}: f32`,
      `const ${name} = ... inside the op`,
    ]);
  }

  function printMathConstant(node: Morph.PropertyAccessExpression): Printed {
    const value = node.getExpression().getText() === 'Math' && MATH_CONSTANTS.get(node.getName());
    if (value) return { text: cFloat(value), level: ATOM, kind: 'number' };
    const legal = [...MATH_CONSTANTS.keys()].map((name) => `Math.${name}`);
    return refuse(node, 'captured-variable', `'${node.getText()}' is not known to a pointwise op`, legal);
  }

  function printUnary(node: Morph.PrefixUnaryExpression, scope: Scope): Printed {
    const operand = node.getOperand();
    const operator = node.getText()[0];
    if (operator === '!' && node.getText()[1] !== '=') {
      return { text: `!${grouped(condition(operand, scope), UNARY)}`, level: UNARY, kind: 'condition' };
    }
    const sign = /^([-+])(?!\1)/.exec(node.getText())?.[1];
    if (!sign) {
      return refuse(
        node,
        'unsupported-expression',
        `operator '${node.getText().slice(0, 2)}' is not supported`,
        EXPRESSIONS,
      );
    }
    const value = number(operand, scope);
    if (sign === '+') return value;
    // - of a printed minus would read as a decrement.
    return {
      text: `-${grouped(value, value.text.startsWith('-') ? ATOM : UNARY)}`,
      level: UNARY,
      kind: 'number',
    };
  }

  function printBinary(node: Morph.BinaryExpression, scope: Scope): Printed {
    const token = node.getOperatorToken();
    const name = token.getText();
    if (name === '**') return printPower(node, scope);
    const operator = OPERATORS.get(name);
    if (!operator) {
      return refuse(token, 'unsupported-expression', `operator '${name}' is not supported`, [
        ...OPERATORS.keys(),
        '**',
      ]);
    }
    const [left, right] = [node.getLeft(), node.getRight()].map((side) => {
      if (operator.takes === 'number') return number(side, scope);
      return operator.takes === 'condition' ? condition(side, scope) : print(side, scope);
    }) as [Printed, Printed];
    if (left.kind !== right.kind) {
      refuse(token, 'not-a-number', `'${name}' compares a number with true or false`, [
        'two numbers',
        'two conditions',
      ]);
    }
    const text = `${grouped(left, operator.left)} ${operator.c} ${grouped(right, operator.level + 1)}`;
    return { text, level: operator.level, kind: operator.gives };
  }

  /** Squares, cubes and fourth powers are products; every other power is powf. */
  function printPower(node: Morph.BinaryExpression, scope: Scope): Printed {
    const base = number(node.getLeft(), scope);
    const right = node.getRight();
    const exponent = Node.isNumericLiteral(right) ? literalValue(right) : 0;
    if (exponent === 2 || exponent === 3 || exponent === 4) {
      const factor = grouped(base, UNARY);
      return { text: Array(exponent).fill(factor).join(' * '), level: PRODUCT, kind: 'number' };
    }
    return { text: `powf(${base.text}, ${number(right, scope).text})`, level: ATOM, kind: 'number' };
  }

  function printConditional(node: Morph.ConditionalExpression, scope: Scope): Printed {
    const test = condition(node.getCondition(), scope);
    const yes = print(node.getWhenTrue(), scope);
    const no = print(node.getWhenFalse(), scope);
    if (yes.kind !== no.kind) {
      refuse(node, 'not-a-number', 'one branch is a number, the other true or false', [
        'two numbers',
        'two conditions',
      ]);
    }
    const text = `${grouped(test, CHOICE + 1)} ? ${grouped(yes, CHOICE + 1)} : ${grouped(no, CHOICE)}`;
    return { text, level: CHOICE, kind: yes.kind };
  }

  function printCall(node: Morph.CallExpression, scope: Scope): Printed {
    const callee = node.getExpression();
    const name = callee.getText();
    const target = MATH_CALLS.get(name) ?? (scope.has(name) ? undefined : calls.find(callee));
    if (!target) {
      const legal = [...calls.names(node.getSourceFile()), ...MATH_CALLS.keys()];
      return refuse(callee, 'unknown-call', `'${name}' has no device equivalent`, legal);
    }
    if (scope.has(target.c)) {
      refuse(callee, 'reserved-name', `'${target.c}' is a function and a value of this op`, ['another name']);
    }
    const given = node.getArguments();
    if (given.length !== target.parameters) {
      const example = Array.from({ length: target.parameters }, (_, i) => 'abcdefgh'[i] ?? '_').join(', ');
      const plural = target.parameters === 1 ? '' : 's';
      refuse(
        node,
        'wrong-arguments',
        `'${name}' takes ${target.parameters} argument${plural}, not ${given.length}`,
        [`${name}(${example})`],
      );
    }
    const values = given.map((argument) => number(argument, scope).text);
    return { text: `${target.c}(${values.join(', ')})`, level: ATOM, kind: 'number' };
  }
}

/** Whether C and <cmath> leave a name free for us; macros begin with a word in capitals. */
export function isFreeName(name: string): boolean {
  const isMacro = /^[A-Z][A-Z0-9]+(_\w*)?$/.test(name);
  return /^[A-Za-z][A-Za-z0-9_]*$/.test(name) && !name.includes('__') && !isMacro && !RESERVED.has(name);
}

/** ForOfStatement -> 'for of statement'. */
export function describe(node: Morph.Node): string {
  return `'${node
    .getKindName()
    .replace(/(?<!^)([A-Z])/g, ' $1')
    .toLowerCase()}'`;
}

// C's precedence, loosest first.
const CHOICE = 1;
const PRODUCT = 7;
const UNARY = 8;
const ATOM = 9;

interface Operator {
  readonly c: string;
  readonly level: number;
  /** Least level of a left side without parentheses: its own (C groups from the left), or more where compilers warn. */
  readonly left: number;
  readonly takes: Kind | 'either';
  readonly gives: Kind;
}

const OPERATORS: ReadonlyMap<string, Operator> = new Map([
  ['+', { c: '+', level: 6, left: 6, takes: 'number', gives: 'number' }],
  ['-', { c: '-', level: 6, left: 6, takes: 'number', gives: 'number' }],
  ['*', { c: '*', level: PRODUCT, left: PRODUCT, takes: 'number', gives: 'number' }],
  ['/', { c: '/', level: PRODUCT, left: PRODUCT, takes: 'number', gives: 'number' }],
  ['<', { c: '<', level: 5, left: 6, takes: 'number', gives: 'condition' }],
  ['<=', { c: '<=', level: 5, left: 6, takes: 'number', gives: 'condition' }],
  ['>', { c: '>', level: 5, left: 6, takes: 'number', gives: 'condition' }],
  ['>=', { c: '>=', level: 5, left: 6, takes: 'number', gives: 'condition' }],
  ['===', { c: '==', level: 5, left: 6, takes: 'either', gives: 'condition' }],
  ['!==', { c: '!=', level: 5, left: 6, takes: 'either', gives: 'condition' }],
  ['&&', { c: '&&', level: 3, left: 3, takes: 'condition', gives: 'condition' }],
  ['||', { c: '||', level: 3, left: 3, takes: 'condition', gives: 'condition' }],
]);

const MATH_CALLS: ReadonlyMap<string, { readonly c: string; readonly parameters: number }> = new Map([
  ['Math.abs', { c: 'fabsf', parameters: 1 }],
  ['Math.cos', { c: 'cosf', parameters: 1 }],
  ['Math.exp', { c: 'expf', parameters: 1 }],
  ['Math.expm1', { c: 'expm1f', parameters: 1 }],
  ['Math.log', { c: 'logf', parameters: 1 }],
  ['Math.log1p', { c: 'log1pf', parameters: 1 }],
  ['Math.max', { c: 'fmaxf', parameters: 2 }],
  ['Math.min', { c: 'fminf', parameters: 2 }],
  ['Math.pow', { c: 'powf', parameters: 2 }],
  ['Math.sin', { c: 'sinf', parameters: 1 }],
  ['Math.sqrt', { c: 'sqrtf', parameters: 1 }],
  ['Math.tanh', { c: 'tanhf', parameters: 1 }],
]);

const MATH_CONSTANTS: ReadonlyMap<string, number> = new Map([
  ['E', Math.E],
  ['LN2', Math.LN2],
  ['LOG2E', Math.LOG2E],
  ['PI', Math.PI],
  ['SQRT1_2', Math.SQRT1_2],
  ['SQRT2', Math.SQRT2],
]);

const EXPRESSIONS = [
  'numbers',
  'parameters',
  '+ - * / **',
  '< <= > >= === !==',
  '&& || !',
  'condition ? a : b',
  'Math.*',
];

/** Largest float32. */
const GREATEST = 2 ** 128 - 2 ** 104;

/** ts-morph's own getLiteralValue reads 1e39 and 1e-7 as 1; TypeScript's text of a literal is a plain decimal. */
function literalValue(node: Morph.NumericLiteral): number {
  return Number(node.compilerNode.text);
}

/** Parentheses only where C would read the text otherwise. */
function grouped(value: Printed, level: number): string {
  return value.level < level ? `(${value.text})` : value.text;
}

/** Words of C++ and CUDA, macros in small letters, and functions of <cmath> that an op's own name would collide with. */
const RESERVED = new Set(
  (
    'alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue decltype default ' +
    'delete do double else enum explicit export extern false float for friend goto if inline int long mutable namespace new ' +
    'noexcept not nullptr operator or private protected public register return short signed sizeof static struct switch template ' +
    'this throw true try typedef typeid typename union unsigned using virtual void volatile while xor main ' +
    'and_eq char16_t char32_t const_cast dynamic_cast not_eq or_eq reinterpret_cast static_assert static_cast thread_local typeof wchar_t ' +
    'xor_eq assert errno linux offsetof stderr stdin stdout unix va_arg va_copy va_end va_start ' +
    'abs acos asin atan cbrt ceil cos cosh erf exp exp2 expm1 fabs floor fma fmax fmin fmod gamma hypot j0 j1 jn lgamma log log10 ' +
    'log1p log2 logb max min pow remainder rint round rsqrt sin sinh sqrt tan tanh tgamma trunc y0 y1 yn fabsf cosf expf expm1f ' +
    'logf log1pf fmaxf fminf powf sinf sqrtf tanhf rsqrtf'
  ).split(' '),
);
