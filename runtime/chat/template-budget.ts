// Renders a chat template within a budget: templates are files of others, and one may loop for ever or double a text.
import * as jinja from '@huggingface/jinja';

/** A node of a parsed template; which keys it has depends on its type. */
interface Node {
  readonly type: string;
  readonly value?: unknown;
  readonly operator?: { readonly value: string };
  readonly filter?: Node;
  readonly property?: Node;
  readonly callee?: Node;
  readonly call?: { readonly callee: Node };
  readonly body?: readonly Node[];
  /** Of a node of ours, type Held: an operand that was evaluated before. */
  readonly held?: Value;
}
interface Value {
  readonly type: string;
  readonly value: unknown;
}
interface Scope {
  set(name: string, value: unknown): Value;
}
interface Evaluator {
  evaluate(node: Node | undefined, scope: Scope): Value;
  run(program: Node): Value;
}

// The declarations of the library name its files without their endings, so that Node's resolution finds no types.
const Environment = jinja.Environment as new () => Scope;
const Interpreter = jinja.Interpreter as new (scope: Scope) => Evaluator;

/** A template that asks for more than its budget. Its message ends a sentence that names the template. */
export class OverBudget extends Error {}

/** What a template with nothing to render may spend, and more for each character that it is given. A step of the interpreter
 *  costs 1, about 0.3 µs; so do 32 characters of a new text, an element of a list, and 256 comparisons of characters. */
const freeSteps = 300_000;
const stepsPerInput = 8;
/** Characters and elements that one value may have, and more for each character given. */
const freeSize = 500_000;
const sizePerInput = 16;
/** An operation may cost so many times the size of the largest value. */
const mostPerSize = 64;
/** Of expressions, blocks and calls of macros, all together. */
const mostDepth = 500;
/** What a round of a loop costs before its body: the library makes a scope for each. */
const stepsPerRound = 10;

/** The text of a parsed template for these variables. The budget counts steps and sizes, not time: the same template and the
 *  same conversation are refused everywhere or nowhere.
 *  @throws OverBudget, or the library's error */
export function renderWithin(template: jinja.Template, variables: Record<string, unknown>): string {
  const environment = new Environment();
  const interpreter = new MeteredInterpreter(environment);
  // The globals that the library gives a template; it exports its interpreter without them.
  const constants = { false: false, true: true, none: null, False: false, True: true, None: null };
  const functions = {
    raise_exception: (message: string) => {
      throw new Error(message);
    },
    range: interpreter.range,
    strftime_now: interpreter.strftimeNow,
  };
  for (const [name, value] of Object.entries({ ...constants, ...functions })) environment.set(name, value);
  try {
    for (const [name, value] of Object.entries(variables))
      interpreter.give(name, environment.set(name, value));
    return String(interpreter.run(template.parsed as Node).value);
  } catch (error) {
    // The engine's own limits: the depth of calls, the length of a text or of a list.
    if (error instanceof RangeError) throw new OverBudget('it nests too deep, or makes too long a text');
    throw error;
  }
}

/** What is known of a node while its children are evaluated. */
interface Frame {
  readonly node: Node;
  readonly depth: number;
  /** Of the children so far: the two largest sizes. */
  largest: number;
  second: number;
  /** No child yet. */
  isFirst: boolean;
  /** The children that come now belong to the body of a macro, not to an operation. */
  inBody: boolean;
}

class MeteredInterpreter extends Interpreter {
  #steps = freeSteps;
  #mostSize = freeSize;
  #frame: Frame | undefined;
  /** Sizes of lists and dicts, which never change. */
  readonly #sizes = new WeakMap<object, number>();
  /** The size of the value that a method belongs to. */
  readonly #receivers = new WeakMap<object, number>();

  /** Enlarges the budget by what a variable of the caller brings. */
  give(name: string, value: Value): void {
    const size = name.length + this.#sizeOf(value, Number.POSITIVE_INFINITY);
    this.#steps += stepsPerInput * size;
    this.#mostSize += sizePerInput * size;
  }

  /** Python's range. The library's makes the whole list before anyone can count it. */
  readonly range = (first: number, second?: number, step = 1): number[] => {
    const [start, stop] = second === undefined ? [0, first] : [first, second];
    if (step === 0) throw new Error('range() step must not be zero');
    const result: number[] = [];
    for (let at = start; step > 0 ? at < stop : at > stop; at += step) {
      this.#spend(1);
      result.push(at);
    }
    return result;
  };

  readonly strftimeNow = (format: string): string => {
    this.#spend(1000 + format.length * 10);
    return clock.render({ format });
  };

  override evaluate(node: Node | undefined, scope: Scope): Value {
    if (node === undefined) return super.evaluate(node, scope);
    if (node.type === 'FilterStatement') return this.evaluate(asExpression(this, node, scope), scope);
    this.#spend(1);
    const parent = this.#frame;
    const depth = parent === undefined ? 0 : parent.depth + 1;
    if (depth > mostDepth) throw new OverBudget('it nests too deep');
    const frame: Frame = { node, depth, largest: 0, second: 0, isFirst: true, inBody: false };
    this.#frame = frame;
    let value: Value;
    try {
      value = node.held ?? super.evaluate(node, scope);
    } finally {
      this.#frame = parent;
    }
    const size = this.#sizeOf(value);
    if (readsValues.has(node.type)) {
      this.#spend(Array.isArray(value.value) ? value.value.length : size / 32);
      this.#spend((frame.largest * Math.max(8, multiplies(node) ? frame.second : 0)) / 256);
    }
    // A slice of a text is made from a list of its characters.
    if (node.property?.type === 'SliceExpression') this.#spend(frame.largest);
    if (node.type === 'MemberExpression' && typeof value.value === 'function') {
      this.#receivers.set(value, frame.largest);
    }
    if (parent !== undefined) this.#childOf(parent, node, value, size);
    return value;
  }

  /** An operation costs at most the product of its two largest operands: to search a text in a text, to replace, to join,
   *  to indent. It runs after the last operand is known, so that what would cost too much is refused before. */
  #childOf(parent: Frame, node: Node, value: Value, size: number): void {
    if (parent.isFirst && parent.node.type === 'For') this.#spend(stepsPerRound * lengthOf(value));
    if (parent.isFirst && parent.node.type === 'MemberExpression') parent.largest = lengthOf(value);
    parent.isFirst = false;
    if (parent.inBody || !readsValues.has(parent.node.type)) return;
    let operand = printsLists(parent.node) ? size : lengthOf(value);
    if (!multiplies(parent.node)) {
      parent.largest = Math.max(parent.largest, operand);
      return;
    }
    if (node === calleeOf(parent.node)) {
      const receiver = this.#receivers.get(value);
      if (receiver === undefined) {
        // A macro, or a global, which counts for itself: its arguments are not multiplied.
        parent.inBody = true;
        parent.largest = parent.second = 0;
        return;
      }
      operand = receiver;
    } else if (typeof value.value === 'number' && parent.node.type !== 'BinaryExpression') {
      operand = Math.abs(value.value);
    }
    if (operand > parent.largest) [parent.largest, parent.second] = [operand, parent.largest];
    else if (operand > parent.second) parent.second = operand;
    const isCall = calleeOf(parent.node) !== undefined;
    // Before the callee is known the arguments may be those of a macro.
    if (isCall && node !== calleeOf(parent.node)) return;
    if (!(parent.largest * Math.max(1, parent.second) <= mostPerSize * this.#mostSize)) {
      throw new OverBudget('one of its operations is too large');
    }
  }

  /** Characters and elements of a value, all levels together: what it costs to print. */
  #sizeOf(value: Value, most = this.#mostSize): number {
    const size = this.#measure(value);
    if (size > most) throw new OverBudget('one of its values is too large');
    return size;
  }

  #measure({ type, value }: Value): number {
    if (typeof value === 'string') return value.length;
    if (!Array.isArray(value) && !(value instanceof Map)) return 1;
    const known = this.#sizes.get(value);
    if (known !== undefined) return known;
    let size = 1;
    for (const [key, child] of value.entries()) {
      // A namespace can change later: inside another value it would change that one's size.
      if (child?.type === 'NamespaceValue') throw new OverBudget('it has a namespace inside another value');
      if (child !== undefined) size += this.#measure(child) + 1 + (typeof key === 'string' ? key.length : 0);
    }
    if (type !== 'NamespaceValue') this.#sizes.set(value, size);
    return size;
  }

  #spend(steps: number): void {
    this.#steps -= steps;
    if (!(this.#steps >= 0)) throw new OverBudget('it takes too many steps');
  }
}

const clock = new jinja.Template('{{ strftime_now(format) }}');

/** Nodes that read the values of their children to make one of their own; the others pass one on. */
const readsValues: ReadonlySet<string> = new Set([
  ...['Program', 'If', 'For', 'CallStatement', 'CallExpression', 'FilterExpression', 'BinaryExpression'],
  ...['ArrayLiteral', 'TupleLiteral', 'ObjectLiteral', 'TestExpression'],
]);

/** Filters that look at a list without what is in it. */
const shallowFilters: ReadonlySet<string> = new Set([
  ...['length', 'first', 'last', 'list', 'reverse', 'unique', 'safe', 'items', 'default'],
  ...['selectattr', 'rejectattr', 'map'],
]);

/** A list that is compared or printed costs all of its levels. */
function printsLists({ type, operator, filter }: Node): boolean {
  if (type === 'BinaryExpression') return operator?.value.endsWith('=') ?? false;
  const name = filter?.callee?.value ?? filter?.value;
  return type === 'FilterExpression' && !(typeof name === 'string' && shallowFilters.has(name));
}

const lengthOf = ({ value }: Value): number =>
  typeof value === 'string' || Array.isArray(value) ? value.length : value instanceof Map ? value.size : 1;

function multiplies(node: Node): boolean {
  if (node.type === 'BinaryExpression') return node.operator?.value.endsWith('in') ?? false;
  if (node.type === 'FilterExpression') return node.filter?.type === 'CallExpression';
  return node.type === 'CallExpression' || node.type === 'CallStatement';
}

const calleeOf = (node: Node): Node | undefined => node.callee ?? node.call?.callee;

/** A filter block is a filter over the text of its body. */
function asExpression(evaluator: Evaluator, node: Node, scope: Scope): Node {
  const held = evaluator.evaluate({ type: 'Program', body: node.body! }, scope);
  const operand = { type: 'Held', held };
  return { ...node, type: 'FilterExpression', operand } as Node;
}
