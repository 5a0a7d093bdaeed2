// Something so many times, in rules that share what they have in common: one rule of hundreds of places costs hundreds of milliseconds a mask.

/** Places of a rule. */
const most = 16;

/** Writes so many of something. @param rule adds a rule of this body, and gives its name */
export function repeats(rule: (body: string) => string) {
  /** By what is repeated, and how often. */
  const known = new Map<string, string>();
  const once = (key: string, body: () => string): string => {
    const name = known.get(key) ?? rule(body());
    known.set(key, name);
    return name;
  };
  const largest = (times: number): number => {
    let size = 1;
    while (size * most <= times) size *= most;
    return size;
  };
  /** @param size a power of `most` */
  const block = (one: string, size: number): string =>
    size === 1
      ? one
      : once(`${size} ${one}`, () => Array.from({ length: most }, () => block(one, size / most)).join(' '));
  const exactly = (one: string, times: number): string[] => {
    if (times === 0) return [];
    const size = largest(times);
    const whole = Math.floor(times / size);
    return [...Array.from({ length: whole }, () => block(one, size)), ...exactly(one, times % size)];
  };
  const upTo = (one: string, times: number): string => {
    if (times < most) return `${one}{0,${times}}`;
    return once(`0-${times} ${one}`, () => {
      const size = largest(times);
      const fewer = once(`0-${size - 1} ${one}`, () => upTo(one, size - 1));
      let behind = upTo(one, times % size);
      for (let i = Math.floor(times / size); i > 0; i--) {
        behind = `(${block(one, size)} ${behind} | ${fewer})`;
      }
      return behind;
    });
  };
  /** @param to null: without end */
  return (one: string, least: number, to: number | null): string => {
    const more = to === null ? `${one}*` : to > least ? upTo(one, to - least) : '';
    return [...exactly(one, least), more].join(' ');
  };
}
