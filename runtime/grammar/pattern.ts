// A pattern of a schema as a grammar in EBNF: JSON texts that it matches, each of their characters as JSON writes it. It may allow less than the
// pattern: no escapes of \u, and no character that lengths are counted with. What cannot be followed is refused by name.
import { type AST, RegExpParser } from '@eslint-community/regexpp';
import { complement, everything, oneOf, type Range, sets } from './json-characters.ts';
import { mostRepeats } from './keywords.ts';
import { anyLength, isWithin, type Lengths, lengthsOf, sumOf } from './pattern-lengths.ts';

interface Writing {
  /** Adds a rule of this body, and gives its name. */
  readonly rule: (body: string) => string;
  /** So many of something; null: without end. */
  readonly repeated: (one: string, least: number, to: number | null) => string;
  /** @param why of the pattern */
  readonly refuse: (why: string) => Error;
}

/** Longer patterns, and groups in one another, take too long. */
const [mostCharacters, mostDeep] = [10_000, 100];
/** Of something that groups in one another repeat: where such texts can be read in many ways, a mask would never be made. */
const mostInGroups = 100_000;

/** A part of a sequence. */
interface Part {
  readonly lengths: Lengths;
  /** Whether it can be held to other lengths. */
  readonly holds: boolean;
  /** The texts that have these lengths, where it is held to some; null: there are none. */
  readonly write: (within: Lengths) => string | null;
}

const parser = new RegExpParser();

const tooDeep = (refuse: Writing['refuse']): Error => refuse(`groups in it nest more than ${mostDeep} deep`);

/** The body of a rule of the texts of a regular expression, without their quotes.
 *  @param bounds of their lengths: followed where one part of the pattern decides how long a text is */
export function patternBody(regex: RegExp, bounds: Lengths, writing: Writing): string {
  const { refuse } = writing;
  const { source, unicode } = regex;
  if (source.length > mostCharacters) throw refuse(`it has more than ${mostCharacters} characters`);
  try {
    const { alternatives } = parser.parsePattern(source, 0, source.length, { unicode, unicodeSets: false });
    for (const { elements } of alternatives) for (const element of elements) checkTimes(element, refuse);
    const body = new PatternWriter(writing).whole(alternatives, bounds);
    if (body === null) throw refuse('none of its texts has a length that is asked for beside it');
    return body;
  } catch (error) {
    throw error instanceof RangeError ? tooDeep(refuse) : error;
  }
}

/** Of something in an element, how often groups in one another repeat it. */
function checkTimes(element: AST.Element, refuse: Writing['refuse']): number {
  if (element.type === 'Quantifier') {
    const { min, max } = element;
    if (min > mostRepeats) throw refuse(`it asks for more than ${mostRepeats} of something`);
    const most = Number.isFinite(max) ? Math.min(max, mostRepeats) : min;
    const times = checkTimes(element.element, refuse) * Math.max(1, most);
    if (times > mostInGroups) throw refuse(`it asks for more than ${mostInGroups} of something in groups`);
    return times;
  }
  if (element.type !== 'Group' && element.type !== 'CapturingGroup') return 1;
  const all = element.alternatives.flatMap(({ elements }) => elements.map((one) => checkTimes(one, refuse)));
  return Math.max(1, ...all);
}

class PatternWriter {
  readonly #writing: Writing;
  #any: string | undefined;

  constructor(writing: Writing) {
    this.#writing = writing;
  }

  /** Anchors may stand around each alternative; where there are none, so does any text. */
  whole(alternatives: readonly AST.Alternative[], bounds: Lengths): string | null {
    const ways = alternatives.map(({ elements }) => {
      const begins = isAnchor(elements[0], 'start');
      const ends = elements.length > Number(begins) && isAnchor(elements.at(-1), 'end');
      const inside = elements.slice(Number(begins), elements.length - Number(ends));
      const parts = inside.map((element) => this.#part(element, 0));
      return this.#sequence(
        [...(begins ? [] : [this.#anything()]), ...parts, ...(ends ? [] : [this.#anything()])],
        bounds,
      );
    });
    return oneOfWays(ways);
  }

  #anything(): Part {
    const { rule, repeated } = this.#writing;
    return {
      ...{ lengths: anyLength, holds: true },
      write: ({ least, most }) => {
        this.#any ??= rule(oneOf(everything)!);
        return repeated(this.#any, least, most);
      },
    };
  }

  #sequence(parts: readonly Part[], bounds: Lengths): string | null {
    const within = this.#shares(parts, bounds);
    const texts = within?.map((lengths, i) => parts[i]!.write(lengths)) ?? [null];
    if (texts.includes(null)) return null;
    const text = texts.filter((one) => one !== '').join(' ');
    return text === '' ? '""' : text;
  }

  /** What each part is held to, so that all of them together have these lengths; null: they never do. */
  #shares(parts: readonly Part[], bounds: Lengths): readonly Lengths[] | null {
    const sum = sumOf(parts.map(({ lengths }) => lengths));
    if (isWithin(sum, bounds)) return parts.map(() => anyLength);
    if ((sum.most !== null && sum.most < bounds.least) || (bounds.most !== null && sum.least > bounds.most))
      return null;
    const open = parts.filter(({ lengths: { least, most } }) => least !== most);
    const [only] = open;
    if (only === undefined || open.length > 1 || !only.holds) {
      throw this.#writing.refuse(
        'lengths beside it are not supported: more than one part of it decides how long a text is',
      );
    }
    const others = sum.least - only.lengths.least;
    const within = {
      least: Math.max(0, bounds.least - others),
      most: bounds.most === null ? null : bounds.most - others,
    };
    return parts.map((part) => (part === only ? within : anyLength));
  }

  #part(element: AST.Element, depth: number): Part {
    const lengths = lengthsOf(element);
    if (element.type === 'Quantifier') {
      const { min, max } = element;
      const one = lengthsOf(element.element);
      return {
        ...{ lengths, holds: one.least === 1 && one.most === 1 },
        write: ({ least, most }) => {
          const to = Math.min(max, most ?? Number.POSITIVE_INFINITY);
          const text = this.#part(element.element, depth).write(anyLength)!;
          return this.#writing.repeated(
            text,
            Math.max(min, least),
            Number.isFinite(to) ? Math.min(to, mostRepeats) : null,
          );
        },
      };
    }
    if (element.type === 'Group' || element.type === 'CapturingGroup') {
      return { lengths, holds: true, write: (within) => this.#group(element, within, depth + 1) };
    }
    return { lengths, holds: false, write: () => this.#character(element) };
  }

  #group(
    { alternatives, raw, ...group }: AST.Group | AST.CapturingGroup,
    within: Lengths,
    depth: number,
  ): string | null {
    const { refuse, rule } = this.#writing;
    if (depth > mostDeep) throw tooDeep(refuse);
    if ('modifiers' in group && group.modifiers) throw this.#unsupported(raw.slice(0, 3));
    const ways = alternatives.map(({ elements }) =>
      this.#sequence(
        elements.map((element) => this.#part(element, depth)),
        within,
      ),
    );
    const body = oneOfWays(ways);
    return body === null ? null : rule(body);
  }

  #character(element: Exclude<AST.Element, AST.Quantifier | AST.Group | AST.CapturingGroup>): string {
    const { refuse } = this.#writing;
    switch (element.type) {
      case 'Assertion': {
        const { kind, raw } = element;
        if (kind === 'start' || kind === 'end') throw refuse(`the anchor ${raw} stands inside of it`);
        throw this.#unsupported(kind === 'word' ? raw : raw.slice(0, 3));
      }
      case 'Backreference':
        throw this.#unsupported(element.raw.slice(0, 2));
      case 'ExpressionCharacterClass':
        throw this.#unsupported(element.raw.slice(0, 3));
      default: {
        const made = oneOf(this.#ranges(element));
        if (made === null) throw refuse('it asks for characters that are never made');
        return made;
      }
    }
  }

  #ranges(
    of: AST.CharacterClass | AST.ClassRangesCharacterClassElement | AST.CharacterSet,
  ): readonly Range[] {
    switch (of.type) {
      case 'Character':
        if (of.value >= 0xd800 && of.value <= 0xdfff) throw this.#unsupported('half of a character');
        return [[of.value, of.value]];
      case 'CharacterClassRange':
        return [[of.min.value, of.max.value]];
      case 'CharacterSet': {
        if (of.kind === 'property') throw this.#unsupported(of.raw.slice(0, 2));
        return of.kind !== 'any' && of.negate ? complement(sets[of.kind]) : sets[of.kind];
      }
      case 'CharacterClass': {
        // Those of the flag v, which is not set, have others in them.
        const ranges = (of.elements as AST.ClassRangesCharacterClassElement[]).flatMap((one) =>
          this.#ranges(one),
        );
        return of.negate ? complement(ranges) : ranges;
      }
    }
  }

  #unsupported(what: string): Error {
    return this.#writing.refuse(`${what} in it is not supported`);
  }
}

const isAnchor = (element: AST.Element | undefined, kind: 'start' | 'end'): boolean =>
  element?.type === 'Assertion' && element.kind === kind;

/** Those that there are. */
function oneOfWays(ways: readonly (string | null)[]): string | null {
  const made = ways.filter((way) => way !== null);
  return made.length === 0 ? null : made.map((way) => `(${way})`).join(' | ');
}
