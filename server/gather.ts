// What is said in quick succession goes to the client in one event.
import type { Said } from './service.ts';

/** Between two events of a stream [ms]. An event costs the server what a GPU needs for a token; nobody sees this delay. */
const betweenMillis = 2;

export interface Gathered {
  /** Gives it on at once, or with what else is said until the time is over. */
  take(said: Said): void;
  /** Gives on what is held. */
  flush(): void;
}

export function gather(give: (said: Said) => void): Gathered {
  let held: Said | null = null;
  let given = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | undefined;
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    if (held === null) return;
    const said = held;
    held = null;
    given = performance.now();
    give(said);
  };
  const take = (said: Said) => {
    const isCall = said.toolCalls !== undefined;
    if (isCall) flush(); // parts of a call stay apart
    held = held === null ? said : joined(held, said);
    const left = given + betweenMillis - performance.now();
    if (isCall || left <= 0) flush();
    else timer ??= setTimeout(flush, left);
  };
  return { take, flush };
}

const joined = (a: Said, b: Said): Said => ({
  text: a.text + b.text,
  logprobs: a.logprobs || b.logprobs ? [...(a.logprobs ?? []), ...(b.logprobs ?? [])] : undefined,
  toolCalls: undefined,
});
