// The parts of a calibration, each in a thread.
import { mayStartThreads, Thread } from '../runtime/thread.ts';
import { calibrationPart, type PartInput } from './calibration-part.ts';

type Part = ReturnType<typeof calibrationPart>;

export interface Team {
  readonly parts: number;
  /** Has all parts do something side by side. @param given what each is called with; null: it is not */
  each<K extends keyof Part>(
    name: K,
    given: (part: number) => Parameters<Part[K]> | null,
  ): Promise<readonly ReturnType<Part[K]>[]>;
  /** What runs ends with an error. */
  end(): void;
}

/** So many threads; where Node's permissions allow none, one part does all of it, and nothing else runs meanwhile. */
export function calibrationTeam(input: Omit<PartInput, 'part' | 'parts'>, threads: number): Team {
  const isAlone = !mayStartThreads();
  const parts = isAlone ? 1 : threads;
  const workers = Array.from({ length: parts }, (_, part) => {
    const data: PartInput = { ...input, part, parts };
    if (!isAlone) return new Thread(new URL('./calibration-thread.ts', import.meta.url), data);
    const functions: Record<keyof Part, (...given: never[]) => unknown> = calibrationPart(data);
    return {
      call: async (name: keyof Part, ...given: readonly unknown[]) => functions[name](...(given as never[])),
      end: () => {},
    };
  });
  return {
    parts,
    each: async (name, given) => {
      const calls = workers.flatMap((worker, part) => {
        const arguments_ = given(part);
        return arguments_ === null ? [] : [worker.call(name, ...arguments_)];
      });
      return (await Promise.all(calls)) as ReturnType<Part[typeof name]>[];
    },
    end: () => {
      for (const worker of workers) worker.end();
    },
  };
}
