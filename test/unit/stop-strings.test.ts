// A stop text ends a reply before it, wherever the pieces are cut.
import { describe, expect, test } from 'vitest';
import { stopFilter } from '../../runtime/tokenizer/stop-strings.ts';

describe('stop strings', () => {
  const pushed = (stops: string[], ...pieces: string[]) => {
    const filter = stopFilter(stops);
    const emitted = pieces.map((piece) => filter.push(piece));
    return [...emitted.map(({ emit, stopped }) => (stopped ? `${emit}|` : emit)), filter.end()];
  };

  test('a stop string split over pieces ends the text before it', () => {
    expect(pushed(['\nUser:'], 'Hi', '\n', 'Us', 'er: x', 'more')).toEqual(['Hi', '', '', '|', '|', '']);
  });

  test('text that only looked like a stop string comes out', () => {
    expect(pushed(['END'], 'aE', 'N', 'ENx', 'EN')).toEqual(['a', '', 'ENENx', '', 'EN']);
  });

  test('the earliest of several stop strings wins', () => {
    expect(pushed(['c', 'bc', 'zz'], 'abcd')).toEqual(['a|', '']);
  });

  test('without stop strings nothing is held back', () => {
    expect(pushed(['', ''], 'abc')).toEqual(['abc', '']);
  });
});
