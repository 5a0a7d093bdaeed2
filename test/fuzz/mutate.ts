// Changes to files, each drawn from a seed: bytes, text and JSON. The same seed gives the same change.

export interface Draw {
  /** A whole number from 0 to below the bound. */
  below(bound: number): number;
  pick<T>(list: readonly T[]): T;
}

/** Source: mulberry32 by Tommy Ettinger, public domain. */
export function drawFrom(seed: number): Draw {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound: number) => Math.floor(next() * bound);
  return { below, pick: (list) => list[below(list.length)]! };
}

/** Values that files rarely hold. */
const odd: readonly unknown[] = [
  ...[null, true, false, 0, -1, 1, 1.5, -0.5, 1e9, 2 ** 31, 2 ** 32 - 2, 2 ** 53, 1e308, -1e308, 5e-324],
  ...[
    '',
    ' ',
    '\0',
    '\x1b[2J',
    '__proto__',
    '\ud800',
    'x'.repeat(5000),
    '../../etc/passwd',
    '/dev/zero',
    'NaN',
  ],
  ...[[], {}, [[]], [null], { type: 'Sequence' }, { String: '' }, { Regex: '(' }, { Regex: '(a|a)*$' }],
];

/** JSON with one to three places changed: a value replaced, taken away, doubled, nested or exchanged. */
export function mutateJson(json: unknown, draw: Draw): unknown {
  let changed = structuredClone(json);
  for (let times = 1 + draw.below(3); times > 0; times--) changed = changeOnce(changed, draw);
  return changed;
}

function changeOnce(json: unknown, draw: Draw): unknown {
  type Place = { readonly holder: Record<string, unknown>; readonly key: string };
  let place: Place | undefined;
  let at: unknown = json;
  // Down to some depth, so that what is near the top is changed as often as the long lists below.
  for (let depth = 1 + draw.below(5); depth > 0 && typeof at === 'object' && at !== null; depth--) {
    const keys = Object.keys(at);
    if (keys.length === 0) break;
    place = { holder: at as Record<string, unknown>, key: draw.pick(keys) };
    at = place.holder[place.key];
  }
  if (place === undefined) return structuredClone(draw.pick(odd));
  const { holder, key } = place;
  switch (draw.below(7)) {
    case 0:
      delete holder[key];
      break;
    case 1:
      // Copies of copies would be too much to write.
      holder[key] = Array.from({ length: typeof at === 'object' ? 3 : draw.pick([2, 50, 2000]) }, () => at);
      break;
    case 2:
      for (let depth = draw.pick([1, 20, 1000]); depth > 0; depth--) holder[key] = [holder[key]];
      break;
    case 3:
      holder[key] = structuredClone(holder[draw.pick(Object.keys(holder))]);
      break;
    case 4:
      if (typeof at === 'number')
        holder[key] = draw.pick([-at, at + 1, at - 1, at * 2, at / 2, at * 1e9, at + 0.5]);
      else if (typeof at === 'string') holder[key] = mutateText(at, draw);
      else holder[key] = structuredClone(draw.pick(odd));
      break;
    default:
      holder[key] = structuredClone(draw.pick(odd));
  }
  return json;
}

/** Text with one to three pieces changed. */
export function mutateText(text: string, draw: Draw): string {
  let changed = text;
  for (let times = 1 + draw.below(3); times > 0; times--) {
    const [a, b] = [draw.below(changed.length + 1), draw.below(changed.length + 1)];
    const [from, to] = [Math.min(a, b), Math.min(Math.max(a, b), Math.min(a, b) + 200)];
    const piece = changed.slice(from, to);
    const middle = [
      '',
      piece.repeat(draw.pick([2, 100])),
      String(draw.pick(odd)),
      [...piece].reverse().join(''),
      draw.pick([
        '{%',
        '%}',
        '{{',
        '}}',
        '{#',
        '-%}',
        "'",
        '(',
        '[',
        '|',
        '\r\n',
        '\\',
        '"',
        ',',
        ' '.repeat(3000),
      ]),
    ][draw.below(5)]!;
    changed = changed.slice(0, from) + middle + changed.slice(draw.below(2) === 0 ? from : to);
  }
  return changed;
}

/** Bytes with one to three places changed, cut short or continued. */
export function mutateBytes(bytes: Buffer, draw: Draw): Buffer {
  let changed = Buffer.from(bytes);
  for (let times = 1 + draw.below(3); times > 0; times--) {
    // Headers are at the start: half of all changes are there.
    const reach = draw.below(2) === 0 ? Math.min(changed.length, 200) : changed.length;
    const at = draw.below(Math.max(1, reach));
    switch (draw.below(4)) {
      case 0:
        if (at < changed.length) changed[at] = draw.below(256);
        break;
      case 1:
        changed = changed.subarray(0, at);
        break;
      case 2:
        changed = Buffer.concat([
          changed.subarray(0, at),
          Buffer.alloc(draw.pick([1, 8, 4096]), draw.below(256)),
          changed.subarray(at),
        ]);
        break;
      default:
        if (at < changed.length) changed[at]! ^= 1 << draw.below(8);
    }
  }
  return changed;
}
