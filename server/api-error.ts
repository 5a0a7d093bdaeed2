// What a request is answered when it fails, in the shape of OpenAI's errors.
import { InsufficientMemoryError, KernelTimeoutError, OnelaunchError, ofAllocation } from '../errors.ts';

/** The statuses that failures have. 499 is for the log: the client has left. */
export type FailureStatus = 400 | 401 | 403 | 404 | 405 | 413 | 415 | 499 | 500 | 503 | 504;

interface Details {
  /** The parameter that is wrong, such as messages[0].role. */
  readonly param?: string | undefined;
  readonly code?: string | undefined;
}

/** A failure that its request is told. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: FailureStatus;
  readonly param: string | null;
  readonly code: string | null;

  constructor(status: FailureStatus, message: string, { param, code }: Details = {}) {
    super(message);
    this.status = status;
    this.param = param ?? null;
    this.code = code ?? null;
  }
}

/** The body of an answer, or the event of a stream. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: 'invalid_request_error' | 'server_error';
    readonly param: string | null;
    readonly code: string | null;
  };
}

export function errorBody({ status, message, param, code }: ApiError): ErrorBody {
  return { error: { message, type: status < 499 ? 'invalid_request_error' : 'server_error', param, code } };
}

/** Whatever was thrown, as its request is told. @param report takes what is a mistake of ours */
export function toApiError(thrown: unknown, report: (error: unknown) => void): ApiError {
  const error = ofAllocation(thrown);
  if (error instanceof ApiError) return error;
  if (error instanceof OnelaunchError && error.kind === 'usage') return new ApiError(400, error.message);
  report(error);
  // There may be some again when other replies have ended, or at another server.
  if (error instanceof InsufficientMemoryError)
    return new ApiError(503, error.message, { code: 'insufficient_memory' });
  if (error instanceof KernelTimeoutError)
    return new ApiError(500, error.message, { code: 'kernel_timeout' });
  if (error instanceof OnelaunchError) return new ApiError(500, error.message, { code: 'model_failed' });
  return new ApiError(500, 'internal error: the log of the server says more', { code: 'internal_error' });
}
