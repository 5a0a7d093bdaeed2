// What --vary says, as axes: keys, and for each the values that are written.
import { OnelaunchError } from '../errors.ts';

export interface Axis {
  readonly key: string;
  /** In their order, `a..b` written out; `*` stands for all that there are. */
  readonly values: readonly string[];
}

const most = 1000;

/**
 * `prefetch=0..3,attention=*,slots=8,10` as three axes. What has no `=` is one more value of the key before it.
 * @param texts of each --vary: a key may stand in one of them only
 * @throws OnelaunchError usage
 */
export function readVary(texts: readonly string[]): readonly Axis[] {
  const axes: { key: string; values: string[] }[] = [];
  for (const text of texts) {
    const before = axes.length;
    for (const word of text.split(',').map((one) => one.trim())) {
      const [, key, value = word] = /^(\w+)\s*=(.*)$/.exec(word) ?? [];
      if (key !== undefined) {
        if (axes.some((axis) => axis.key === key)) throw wrong(text, `has '${key}' twice`);
        axes.push({ key, values: [] });
      }
      const axis = axes.length > before ? axes.at(-1) : undefined;
      if (!axis && /^[a-z]\w*$/i.test(word)) throw wrong(text, `has no values behind the key '${word}'`);
      if (!axis || value.trim() === '') throw wrong(text, `has ${axis ? 'no value' : 'no key'} at '${word}'`);
      axis.values.push(...written(text, value.trim()));
    }
  }
  return axes.map(({ key, values }) => ({ key, values: [...new Set(values)] }));
}

/** A value, or the numbers of `a..b`. */
function written(text: string, value: string): string[] {
  const [, first, last] = /^(\d+)\.\.(\d+)$/.exec(value) ?? [];
  if (first === undefined) {
    if (value.includes('..')) throw wrong(text, `has '${value}', which is no range of whole numbers`);
    return [value];
  }
  const [from, to] = [Number(first), Number(last)];
  if (to < from || to - from >= most)
    throw wrong(text, `has the range '${value}', from more to less or too long`);
  return Array.from({ length: to - from + 1 }, (_, i) => String(from + i));
}

const wrong = (text: string, what: string) =>
  new OnelaunchError('usage', `--vary '${text}' ${what}`, {
    hint: "for example: --vary 'prefetch=0..3,attn_norm=*,tokens=1,8,many'",
  });
