// What ptxas says of each kernel: registers, and what did not fit in them.

/** One __global__ function, or a device function that is called. */
export interface Resources {
  /** As the source writes it, such as decode<16>. */
  readonly name: string;
  readonly registers: number;
  /** Bytes stored and loaded again for want of registers, by a thread. */
  readonly spillBytes: number;
}

/** From the output of `ptxas -v`, in its order. */
export function parseResources(output: string): Resources[] {
  const properties =
    /Function properties for (\S+)\s+\d+ bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads(?:\s+ptxas info\s*: Used (\d+) registers)?/g;
  return [...output.matchAll(properties)].map(([, symbol, stores, loads, registers]) => ({
    name: nameOf(symbol!),
    registers: Number(registers ?? 0),
    spillBytes: Number(stores) + Number(loads),
  }));
}

/** One line for each kernel that spills. */
export const spillLines = (resources: readonly Resources[]): string[] =>
  resources
    .filter(({ spillBytes }) => spillBytes > 0)
    .map(
      ({ name, spillBytes }) => `${name} spills ${spillBytes} bytes a thread: it is slower than it need be`,
    );

/** A mangled name: namespaces and name, each behind its length, an integer of a template. */
export function nameOf(symbol: string): string {
  const prefix = /^_ZN?(?=\d)/.exec(symbol);
  if (!prefix) return symbol;
  const names: string[] = [];
  let rest = symbol.slice(prefix[0].length);
  for (let digits = /^\d+/.exec(rest); digits; digits = prefix[0] === '_ZN' ? /^\d+/.exec(rest) : null) {
    const end = digits[0].length + Number(digits[0]);
    names.push(rest.slice(digits[0].length, end));
    rest = rest.slice(end);
  }
  const argument = /^ILi(\d+)E/.exec(rest)?.[1];
  const name = names.join('::');
  return argument === undefined ? name : `${name}<${argument}>`;
}
