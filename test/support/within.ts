// Waits that end: with what was waited for, or with a failure that says what never came.
import { setTimeout as sleep } from 'node:timers/promises';

/** Far longer than what is waited for takes on a busy machine [s]: it only ends what hangs. */
const patience = 45;

const never = (what: string) => new Error(`did not come in ${patience} s: ${what}`);

/** What a promise resolves to. @param what was waited for, and what there was instead */
export async function within<T>(wait: Promise<T>, what: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(never(what())), patience * 1000);
  });
  try {
    return await Promise.race([wait, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until it is so, asking again after each pause. */
export async function until(
  isSo: () => boolean | Promise<boolean>,
  what: () => string,
  pause: () => Promise<unknown> = () => sleep(20),
): Promise<void> {
  for (const begun = performance.now(); !(await isSo()); await pause()) {
    if (performance.now() - begun > patience * 1000) throw never(what());
  }
}
