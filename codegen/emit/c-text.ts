// Small pieces of C text.

/** A float literal that reads back as the same float32: 1 -> 1.0f, 1e-6 -> 1e-6f. */
export function cFloat(value: number): string {
  const text = shortestFloat32(Math.fround(value));
  return `${/[.e]/.test(text) ? text : `${text}.0`}f`;
}

/** The shortest decimal that rounds to this float32. */
function shortestFloat32(value: number): string {
  for (let digits = 1; digits <= 9; digits++) {
    const text = Number(value.toPrecision(digits));
    if (Math.fround(text) === value) return String(text);
  }
  return String(value);
}

/** A trailing comment, or nothing. */
const comment = (text: string): string => (text ? `  // ${text}` : '');

export interface ConstantView {
  readonly type: string;
  readonly name: string;
  readonly value: string;
  readonly doc: string;
}

/** A constant of the generated header, of one type. */
export const constantOf =
  (type: string) =>
  (name: string, value: number | string, doc = ''): ConstantView => ({
    type,
    name,
    value: String(value),
    doc: comment(doc),
  });
