// Variants compiled side by side, each outcome in the journal as soon as it is known.
import { availableParallelism } from 'node:os';
import { builtRecord, type EngineInput } from './contestant.ts';
import type { Candidate } from './enumerate.ts';
import type { Journal } from './journal.ts';
import { sideBySide } from './side-by-side.ts';

/** Of a variant whose compiler the system ended. */
export const triedAgain = 'the same command tries it again';

export interface Watch {
  /** @param share 0 to 1 of the work, where known */
  readonly onProgress: (share: number | null, detail: string) => void;
  /** Something is done: a line. */
  readonly onLine: (line: string) => void;
}

/**
 * Compiles those that were not, or finds them built; those that a compiler refuses are done with.
 * @param jobs variants at a time; @param before refuse to compile; @param mayBegin asked before each
 * @returns whether all were begun
 */
export async function buildAll(
  candidates: readonly Candidate[],
  journal: Journal,
  input: Pick<EngineInput, 'checked' | 'signal'> &
    Watch & {
      readonly jobs?: number | undefined;
      readonly before: boolean;
      readonly mayBegin: () => boolean;
    },
): Promise<boolean> {
  const { signal, onProgress, onLine, before, mayBegin } = input;
  const refused = new Set(
    journal.records.flatMap((one) => (one.kind === 'built' && one.problem !== null ? [one.id] : [])),
  );
  const isDone = new Set(journal.records.flatMap((one) => (one.kind === 'built' ? [one.id] : [])));
  const wanted = candidates.filter(({ record }) => record.pruned === null && !refused.has(record.id));
  const running = new Set<string>();
  let done = 0;
  const show = () =>
    onProgress(done / wanted.length, `building ${done} of ${wanted.length}: ${[...running].join(', ')}`);
  await sideBySide(wanted, input.jobs ?? availableParallelism(), async (next) => {
    signal.throwIfAborted();
    if (!mayBegin()) return;
    const { id, label } = next.record;
    running.add(label);
    show();
    const record = await builtRecord(next, input, before);
    running.delete(label);
    done++;
    show();
    // One that was built in another run, and is here, is no news.
    if (isDone.has(id) && record.seconds === 0 && record.problem === null) return;
    journal.append(record);
    const how = record.seconds === 0 ? 'built before' : `built in ${record.seconds.toFixed(1)} s`;
    const refused = record.killed
      ? `${record.problem}; ${triedAgain}`
      : `refused by the compiler: ${record.problem}`;
    onLine(`${label}: ${record.problem === null ? how : refused}`);
  });
  return done === wanted.length;
}
