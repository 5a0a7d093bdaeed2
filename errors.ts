// The errors a user can meet, each with a hint and the exit code of the command line.

/** usage: bad input (exit 2); environment: something this machine lacks (exit 3); failed: the work itself failed (exit 1). */
export type ErrorKind = 'usage' | 'environment' | 'failed';

/** One clear line about what went wrong, and the next thing to try. */
export class OnelaunchError extends Error {
  override readonly name: string = 'OnelaunchError';
  readonly kind: ErrorKind;
  readonly hint: string | undefined;
  /** The stage of the generated kernel that failed, when the library named one. */
  readonly stage: string | undefined;
  /** Which of the caller's options is wrong, and where in it, when that is known: ['tools', 0, 'function', 'name']. */
  readonly option: readonly (string | number)[] | undefined;

  constructor(
    kind: ErrorKind,
    message: string,
    options: { hint?: string; stage?: string; cause?: unknown; option?: readonly (string | number)[] } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.hint = options.hint;
    this.stage = options.stage;
    this.option = options.option;
  }
}

/** What `make` makes. A mistake that it finds is one of this option, and is worded so. */
export function inOption<T>(
  option: readonly (string | number)[],
  make: () => T,
  word: (message: string) => string = (message) => message,
): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof OnelaunchError)) throw error;
    const { kind, hint, cause } = error;
    throw new OnelaunchError(kind, word(error.message), {
      ...(hint !== undefined && { hint }),
      ...{ cause: cause ?? error, option: [...option, ...(error.option ?? [])] },
    });
  }
}

/** A prompt that leaves no room for a reply; or a text, to be scored or embedded, that is longer than the context. */
export class ContextOverflow extends OnelaunchError {
  override readonly name = 'ContextOverflow';
  /** Of the prompt, or the text. */
  readonly promptTokens: number;
  readonly context: number;

  /** @param longest positions that the model was made for
   *  @param replies whether there is to be a reply, which needs a position */
  constructor(tokens: number, context: number, longest = Number.POSITIVE_INFINITY, replies = true) {
    const what = replies ? 'prompt' : 'text';
    const message = `the ${what} has ${tokens} tokens, and the context holds ${context}${replies ? ', reply included' : ''}`;
    const most = `A ${what} has at most ${replies ? context - 1 : context} tokens here`;
    const longer =
      context < longest ? 'or load the model with a longer context' : 'the model was made for no more';
    super('usage', message, { hint: `${most}: shorten it, ${longer}.` });
    this.promptTokens = tokens;
    this.context = context;
  }
}

const gravity: readonly ErrorKind[] = ['failed', 'usage', 'environment'];

/** Several mistakes found at once. The first is the message, the others are lines of the hint; the kind is that with the highest exit code. */
export class Problems extends OnelaunchError {
  override readonly name = 'Problems';
  /** Two or more. */
  readonly problems: readonly OnelaunchError[];

  constructor(problems: readonly OnelaunchError[]) {
    const [first, ...others] = problems;
    const rank = Math.max(...problems.map(({ kind }) => gravity.indexOf(kind)));
    const hint = [first!.hint, ...others.map(({ message }) => `also: ${message}`)];
    super(gravity[rank]!, first!.message, { hint: hint.filter((line) => line !== undefined).join('\n') });
    this.problems = problems;
  }
}

/** One error for all of these, in their order; what is said twice counts once. @param errors at least one */
export function gather(errors: readonly OnelaunchError[]): OnelaunchError {
  const each = errors.flatMap((error) => (error instanceof Problems ? error.problems : [error]));
  const all = [...new Map(each.map((error) => [error.message, error])).values()];
  return all.length === 1 ? all[0]! : new Problems(all);
}

/** A broken promise between passes: our mistake, never the user's. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`internal error: ${message}`);
}
