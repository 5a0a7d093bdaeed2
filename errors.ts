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

/** What is made now, to be had later; why it could not be is told to whoever asks for it. */
export function now<T>(make: () => T): () => T {
  try {
    const value = make();
    return () => value;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

/** A prompt that leaves no room for a reply; or a text, to be scored or embedded, that is longer than the context. */
export class ContextOverflowError extends OnelaunchError {
  override readonly name = 'ContextOverflowError';
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

/** Less memory than a model takes, of this machine, of its control group or of a GPU; or less than a reply, a score or a saved session takes
 *  beside it. What the load had allocated is free again. */
export class InsufficientMemoryError extends OnelaunchError {
  override readonly name = 'InsufficientMemoryError';
  /** What it takes in all [bytes]; undefined: not known. A GPU's are rounded to a hundredth of a GiB. */
  readonly neededBytes: number | undefined;
  /** What was there for it [bytes]; undefined: not known. */
  readonly freeBytes: number | undefined;
  /** The longest context for which there is enough, all else as it was; undefined: none, or not known. */
  readonly fittingContext: number | undefined;

  constructor(
    message: string,
    options: {
      readonly neededBytes?: number | undefined;
      readonly freeBytes?: number | undefined;
      readonly fittingContext?: number | undefined;
      readonly hint: string;
      readonly cause?: unknown;
    },
  ) {
    super('environment', message, { hint: options.hint, cause: options.cause });
    this.neededBytes = options.neededBytes;
    this.freeBytes = options.freeBytes;
    this.fittingContext = options.fittingContext;
  }
}

const lessAtATime = 'End other programs, ask for less at a time, or load the model with a smaller context.';

/** An array that Node.js had no memory for, as an error of ours; another error as it is. */
export function ofAllocation(error: unknown): unknown {
  if (!(error instanceof RangeError && error.message === 'Array buffer allocation failed')) return error;
  return new InsufficientMemoryError('there is no memory for an array', { hint: lessAtATime, cause: error });
}

/** What `make` allocates. @param bytes of it  @param what it is of, as in "a score" */
export function allocated<T>(bytes: number, what: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const megabytes = (bytes / 1e6).toFixed(1);
    throw new InsufficientMemoryError(`${what} takes ${megabytes} MB, which there is no memory for`, {
      ...{ neededBytes: bytes, cause: error },
      hint: lessAtATime,
    });
  }
}

/** A thread that the system does not start. @param cause what told so */
export const noThread = (
  cause?: unknown,
  message = 'the system starts no more threads for this process',
): OnelaunchError =>
  new OnelaunchError('environment', message, {
    hint: 'Its limits may be to blame (ulimit -u, pids.max of a container), or ask for fewer threads.',
    cause,
  });

/** A kernel that could not be compiled: kind environment where there is no compiler, failed where it refused the sources or was killed. */
export class BuildError extends OnelaunchError {
  override readonly name = 'BuildError';
  /** The command that failed, with its arguments; undefined: none was run. */
  readonly command: readonly string[] | undefined;
  /** All that it printed. */
  readonly log: string;

  constructor(
    kind: ErrorKind,
    message: string,
    options: {
      readonly hint: string;
      readonly command?: readonly string[] | undefined;
      readonly log?: string;
      readonly stage?: string;
    },
  ) {
    const { hint, command, log = '', stage } = options;
    super(kind, message, { hint, ...(stage !== undefined && { stage }) });
    this.command = command;
    this.log = log;
  }
}

/** A kernel of a GPU that did not end: a block waited longer for another one than any does, or the system ended the launch. `stage` says where it
 *  waited. Other replies of the model may be asked for; where it comes again, load the model anew. */
export class KernelTimeoutError extends OnelaunchError {
  override readonly name = 'KernelTimeoutError';
  /** How long it waited [ms]; undefined: as long as the system lets a launch run. */
  readonly timeoutMs: number | undefined;

  constructor(
    message: string,
    options: { readonly stage?: string | undefined; readonly timeoutMs: number | undefined },
  ) {
    const { stage, timeoutMs } = options;
    super('failed', message, {
      hint: 'Another program may hold the GPU: nvidia-smi shows them. Where none does, the kernel is wrong: gen verify finds out.',
      ...(stage !== undefined && { stage }),
    });
    this.timeoutMs = timeoutMs;
  }
}

/** A model, or one setting of it, that no kernel computes. Several such settings come as `Problems`, each of them one of these. */
export class ModelNotSupportedError extends OnelaunchError {
  override readonly name = 'ModelNotSupportedError';
  /** model_type of its config.json, or general.architecture of its GGUF file; undefined: the file has none. */
  readonly modelType: string | undefined;
  /** What of the file is not supported, such as model_type, architectures or hidden_act. */
  readonly setting: string;

  constructor(
    message: string,
    options: { readonly modelType: string | undefined; readonly setting: string; readonly hint: string },
  ) {
    super('usage', message, { hint: options.hint });
    this.modelType = options.modelType;
    this.setting = options.setting;
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
