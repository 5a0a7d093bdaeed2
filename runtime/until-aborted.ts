// A wait that a signal ends: what is waited for goes on for nobody.

/** What it resolves with; null as soon as the signal is aborted. */
export function untilAborted<T>(made: Promise<T>, signal: AbortSignal | undefined): Promise<T | null> {
  if (signal === undefined) return made;
  let leave = () => {};
  const aborted = new Promise<null>((resolve) => {
    leave = () => resolve(null);
    if (signal.aborted) leave();
    else signal.addEventListener('abort', leave);
  });
  return Promise.race([made, aborted]).finally(() => signal.removeEventListener('abort', leave));
}
