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

  constructor(
    kind: ErrorKind,
    message: string,
    options: { hint?: string; stage?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.hint = options.hint;
    this.stage = options.stage;
  }
}

/** A prompt that leaves no room for a reply. */
export class ContextOverflow extends OnelaunchError {
  override readonly name = 'ContextOverflow';
  readonly promptTokens: number;
  readonly context: number;

  constructor(promptTokens: number, context: number) {
    const message = `the prompt has ${promptTokens} tokens, and the context holds ${context}, reply included`;
    super('usage', message, { hint: 'Shorten the conversation, or load the model with a longer context.' });
    this.promptTokens = promptTokens;
    this.context = context;
  }
}

/** A broken promise between passes: our mistake, never the user's. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`internal error: ${message}`);
}
