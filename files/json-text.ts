// JSON as it comes from strangers: where it is broken, what the file may be in its place, and none without a bottom.
import { isUtf8 } from 'node:buffer';
import { OnelaunchError } from '../errors.ts';
import { notText } from './plain-file.ts';

/** The JSON in the bytes of a file.
 *  @param hint where such a file comes from
 *  @throws OnelaunchError of kind usage, which says where in the file it goes wrong */
export function parseJson(bytes: Buffer, path: string, hint: string): unknown {
  const text = bytes.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new OnelaunchError('usage', `${path}${whereBroken(text)}`, {
      hint: misplacedFile(text) ?? encodingHint(text) ?? hint,
      cause,
    });
  }
  if (!isUtf8(bytes)) throw notText(path);
  checkDepth(value, path, hint);
  return value;
}

function whereBroken(text: string): string {
  if (text.trim() === '') return ' is empty';
  const at = findJsonError(text);
  const before = text.slice(0, at).split('\n');
  const what = at >= text.length ? 'the file ends too early' : `unexpected ${JSON.stringify(text[at])}`;
  return `:${before.length}:${before.at(-1)!.length + 1}: not valid JSON, ${what}`;
}

/** What a file is that starts like this, when it is a well known stand-in for the wanted one. */
export function misplacedFile(start: string): string | undefined {
  if (start.startsWith('version https://git-lfs')) {
    return 'It is a git-lfs pointer: run `git lfs pull` in the directory, or download the file itself.';
  }
  if (/^\s*<(!doctype|html|\?xml)/i.test(start)) {
    return 'It is a web page, such as a login or an error page: download the file itself.';
  }
  if (start.startsWith('GGUF')) return 'It is a GGUF file: give the file itself as the model.';
  if (start.startsWith('PK\u0003\u0004'))
    return 'It is a PyTorch checkpoint: use the safetensors files of the model.';
  return undefined;
}

/** The hint for text that an editor saved in another way than as plain UTF-8, if it did. */
const encodingHint = (text: string): string | undefined =>
  /^[\ufeff\ufffd]/.test(text)
    ? 'It begins with a byte order mark, or is not UTF-8: save it as UTF-8 without a mark.'
    : undefined;

/** Levels of lists and objects in one another. The files that we know of have fewer than 15. */
const mostLevels = 100;

/** Refuses what nests so deep that walking it would end the stack.
 *  @param hint where such a file comes from
 *  @throws OnelaunchError of kind usage. */
export function checkDepth(value: unknown, path: string, hint: string): void {
  if (nestsDeeper(value, mostLevels)) throw tooDeep(path, hint);
}

/** Whether lists and objects nest in more levels than these. @param look at each of them, level by level */
export function nestsDeeper(
  value: unknown,
  levels: number,
  look: (holder: object) => void = () => {},
): boolean {
  const holdersIn = (values: readonly unknown[]) =>
    values.filter((each): each is object => typeof each === 'object' && each !== null);
  let level = holdersIn([value]);
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > levels) return true;
    level = level.flatMap((holder) => {
      look(holder);
      return holdersIn(Array.isArray(holder) ? holder : Object.values(holder));
    });
  }
  return false;
}

const tooDeep = (path: string, hint: string) =>
  new OnelaunchError('usage', `${path} nests more than ${mostLevels} levels deep`, { hint });

/** Whether it is an object of keys alone: no list, and no instance of a class. */
export function isPlain(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Also of an object of another realm.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** A copy of what a caller gives as JSON. Keys that are undefined are left out; what can say itself what it is as JSON, as a Date, does so.
 *  @param hint for what nests too deep
 *  @throws OnelaunchError of kind usage, with the place of what JSON does not have, and for what nests too deep */
export function copyOfJson<T>(value: T, name: string, hint: string): T {
  /** What was copied: an object may stand in several places. */
  const copies = new Map<object, Copy>();
  const copyOf = (one: unknown, at: string, depth: number): Copy => {
    if (one === null || typeof one === 'string' || typeof one === 'boolean' || Number.isFinite(one))
      return { copy: one, levels: 0 };
    if (!Array.isArray(one) && !isPlain(one)) {
      const { toJSON } = Object(one) as { readonly toJSON?: unknown };
      if (typeof toJSON !== 'function') throw noJson(one, at);
      return copyOf(toJSON.call(one), at, depth + 1);
    }
    const known = copies.get(one);
    if (depth + (known?.levels ?? 1) > mostLevels) throw tooDeep(name, hint);
    if (known !== undefined) return known;
    let levels = 0;
    const inside = (each: unknown, key: string | number): unknown => {
      const part = copyOf(each, `${at}.${key}`, depth + 1);
      levels = Math.max(levels, part.levels + 1);
      return part.copy;
    };
    const copy = Array.isArray(one)
      ? Array.from(one, inside)
      : Object.fromEntries(
          Object.entries(one)
            .filter(([, each]) => each !== undefined)
            .map(([key, each]) => [key, inside(each, key)]),
        );
    const made = { copy, levels };
    copies.set(one, made);
    return made;
  };
  return copyOf(value, name, 0).copy as T;
}

/** A copy, and the levels of lists and objects in it. */
interface Copy {
  readonly copy: unknown;
  readonly levels: number;
}

function noJson(value: unknown, at: string): OnelaunchError {
  const what =
    typeof value === 'object'
      ? 'an instance of a class'
      : typeof value === 'number'
        ? String(value)
        : value === undefined
          ? 'undefined'
          : `a ${typeof value}`;
  return new OnelaunchError('usage', `${at} is ${what}, which JSON does not have`, {
    hint: 'Give texts, finite numbers, true, false, null, lists, or plain objects of them.',
  });
}

/** Where JSON goes wrong, as an index into the text: V8 tells it only for some mistakes. */
function findJsonError(text: string): number {
  const closers: string[] = [];
  let expects: 'value' | 'first key' | 'first item' | 'key' | 'colon' | 'comma' = 'value';
  let at = 0;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const taken = pattern.exec(text)?.[0];
    at += taken?.length ?? 0;
    return taken;
  };
  for (;;) {
    take(/[ \t\r\n]*/y);
    if (expects === 'comma') {
      const mark = take(/[,}\]]/y);
      if (mark === ',' && closers.length > 0) expects = closers.at(-1) === '}' ? 'key' : 'value';
      else if (mark === undefined || mark !== closers.pop()) return mark === undefined ? at : at - 1;
    } else if (expects === 'colon') {
      if (take(/:/y) === undefined) return at;
      expects = 'value';
    } else if (expects === 'first key' && take(/\}/y)) {
      closers.pop();
      expects = 'comma';
    } else if (expects === 'key' || expects === 'first key') {
      if (take(string) === undefined) return at;
      expects = 'colon';
    } else if (expects === 'first item' && take(/\]/y)) {
      closers.pop();
      expects = 'comma';
    } else if (take(/\{/y)) {
      closers.push('}');
      expects = 'first key';
    } else if (take(/\[/y)) {
      closers.push(']');
      expects = 'first item';
    } else if (take(string) ?? take(/-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y)) {
      expects = 'comma';
    } else {
      return at;
    }
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON strings hold no control characters.
const string = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
