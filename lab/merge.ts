// Journals of the shards of one experiment as one journal.
import { OnelaunchError } from '../errors.ts';
import { otherHow, readJournal } from './journal.ts';
import { type JournalHeader, type JournalRecord, partsOf } from './journal-records.ts';

/**
 * The records of all, one journal after the other; a variant is told once. Rounds stay those of the shard that made them, each beside the
 * incumbent on its own machine. The header has the parts that are there, and null where all are.
 * @throws OnelaunchError usage for journals of different experiments, devices or partitions, and where rounds of one are in another, too
 */
export function merged(paths: readonly string[]): {
  readonly header: JournalHeader;
  readonly records: readonly JournalRecord[];
} {
  const journals = paths.map((path) => {
    const { header, records } = readJournal(path);
    if (!header) throw new OnelaunchError('usage', `${path} is empty`);
    return { path, shard: header.shard, header: { ...header, shard: null }, records };
  });
  const [first, ...others] = journals;
  if (!first) throw new OnelaunchError('usage', 'there are no journals to merge');
  for (const { path, header } of others) {
    const how = otherHow(header, first.header);
    if (how === null) continue;
    const text = `${path} is of another experiment than ${first.path}: ${how}`;
    throw new OnelaunchError('usage', text, { hint: 'merge shards of one gen explore' });
  }
  const refuse = (
    fact: 'device' | 'weights' | 'compiler',
    word: (other: Fact, first: Fact) => string,
    hint: string,
  ) => {
    const [first, ...facts] = factsOf(journals, fact);
    const other = facts.find(({ value }) => value !== first!.value);
    if (other) throw new OnelaunchError('usage', word(other, first!), { hint });
  };
  refuse(
    'device',
    (a, b) => `${a.path} was timed on ${a.value}, and ${b.path} on ${b.value}`,
    'only what was timed on one kind of device can be ranked',
  );
  refuse(
    'weights',
    (a, b) => `${a.path} is of other weights than ${b.path}`,
    'merge shards of one gen explore',
  );
  refuse(
    'compiler',
    (a, b) => `${a.path} is of kernels by ${a.value}, and ${b.path} of those by ${b.value}`,
    'only what the same compilers built can be ranked',
  );
  refuseTwice(journals);
  const shard = shardOf(journals);
  const known = new Set<string>();
  const isNew = (record: JournalRecord): boolean => {
    if (record.kind !== 'variant') return true;
    const before = known.has(record.id);
    known.add(record.id);
    return !before;
  };
  return {
    header: { ...first.header, shard },
    records: journals.flatMap(({ records }) => records).filter(isNew),
  };
}

interface Fact {
  readonly path: string;
  readonly value: string;
}

/** What the runs of journals say of themselves, where they do. */
const factsOf = (
  journals: readonly { readonly path: string; readonly records: readonly JournalRecord[] }[],
  fact: 'device' | 'weights' | 'compiler',
): Fact[] =>
  journals.flatMap(({ path, records }) =>
    records.flatMap((one) => (one.kind === 'run' && one[fact] ? [{ path, value: one[fact] }] : [])),
  );

/** The parts of all, such as `1,2/3`; null: every part is there.
 *  @throws OnelaunchError usage for parts of different wholes: a variant would be of none, or of two */
function shardOf(
  journals: readonly { readonly path: string; readonly shard: string | null }[],
): string | null {
  const shards = journals.flatMap(({ path, shard }) => (shard === null ? [] : [{ path, ...partsOf(shard) }]));
  const [first] = shards;
  const other = shards.find(({ of }) => of !== first!.of);
  if (other) {
    const text = `${other.path} is of ${other.of} shards, and ${first!.path} of ${first!.of}`;
    throw new OnelaunchError('usage', text, { hint: 'merge shards of one number: --shard 1/4 to 4/4' });
  }
  const parts = new Set(shards.flatMap((one) => one.parts));
  if (!first || shards.length < journals.length || parts.size === first.of) return null;
  return `${[...parts].sort((a, b) => a - b).join()}/${first.of}`;
}

/** Rounds that count twice would make intervals narrower than what was measured. */
function refuseTwice(
  journals: readonly { readonly path: string; readonly records: readonly JournalRecord[] }[],
): void {
  const firsts = new Map<string, string>();
  for (const { path, records } of journals) {
    let begun = '';
    for (const record of records) {
      if (record.kind === 'run') begun = JSON.stringify(record);
      if (record.kind !== 'timed' || begun === '') continue;
      // A run is known by when it began and the first rate that it measured.
      const first = begun + JSON.stringify(record);
      begun = '';
      const before = firsts.get(first);
      if (before !== undefined) {
        const hint = 'give each journal once, and none beside one that it was merged into';
        throw new OnelaunchError('usage', `${path} has rounds that ${before} has, too`, { hint });
      }
      firsts.set(first, path);
    }
  }
}

/** Whether the variant of this place is of a shard `i/n`; the incumbent, 0, is of all. */
export const isOfShard = (
  index: number,
  shard: { readonly part: number; readonly parts: number } | null,
): boolean => shard === null || index === 0 || (index - 1) % shard.parts === shard.part - 1;
