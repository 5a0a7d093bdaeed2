// How long the texts of a regular expression may be.
import type { AST } from '@eslint-community/regexpp';

/** How many characters a text may have; null: without end. */
export interface Lengths {
  readonly least: number;
  readonly most: number | null;
}

export const anyLength: Lengths = { least: 0, most: null };

/** What an element of a pattern may be long. */
export function lengthsOf(element: AST.Element): Lengths {
  switch (element.type) {
    case 'Assertion':
      return { least: 0, most: 0 };
    case 'Quantifier': {
      const one = lengthsOf(element.element);
      const most = one.most === 0 ? 0 : one.most === null ? null : one.most * element.max;
      return { least: one.least * element.min, most: most === Number.POSITIVE_INFINITY ? null : most };
    }
    case 'Group':
    case 'CapturingGroup': {
      const all = element.alternatives.map(({ elements }) => sumOf(elements.map(lengthsOf)));
      const mosts = all.map(({ most }) => most);
      return {
        least: Math.min(...all.map(({ least }) => least)),
        most: mosts.includes(null) ? null : Math.max(...mosts.map(Number)),
      };
    }
    default:
      return { least: 1, most: 1 };
  }
}

export const sumOf = (all: readonly Lengths[]): Lengths => ({
  least: all.reduce((sum, { least }) => sum + least, 0),
  most: all.some(({ most }) => most === null) ? null : all.reduce((sum, { most }) => sum + most!, 0),
});

/** Whether every text of these lengths has one of those. */
export const isWithin = (lengths: Lengths, bounds: Lengths): boolean =>
  lengths.least >= bounds.least &&
  (bounds.most === null || (lengths.most !== null && lengths.most <= bounds.most));
