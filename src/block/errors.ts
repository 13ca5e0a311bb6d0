/** Names of the errno codes a block error may carry; what FUSE answers, and what tests compare. */
export type ErrnoCode =
  | 'EPERM'
  | 'ENOENT'
  | 'EIO'
  | 'ENXIO'
  | 'EBADF'
  | 'EAGAIN'
  | 'ENOMEM'
  | 'EACCES'
  | 'EBUSY'
  | 'EEXIST'
  | 'ENODEV'
  | 'ENOTDIR'
  | 'EISDIR'
  | 'EINVAL'
  | 'EFBIG'
  | 'ENOSPC'
  | 'EROFS'
  | 'ERANGE'
  | 'ELOOP'
  | 'ENOTSUP'
  | 'ENOSYS'
  | 'ENODATA'
  | 'EPROTO'
  | 'EOVERFLOW'
  | 'EDQUOT'
  | 'ECANCELED'
  | 'ESHUTDOWN'
  | 'ETIMEDOUT'
  | 'ECONNREFUSED'
  | 'ECONNRESET'
  | 'EHOSTUNREACH'
  | 'ENOMEDIUM'
  | 'ENOKEY'
  | 'ESTALE'
  | 'EPIPE'
  | 'EINTR';

/** Where an error happened. Filled in once, by the boundary that knows it. */
export interface ErrorContext {
  readonly node?: string;
  readonly operation?: string;
  /** Bytes, in the node's own address space. */
  readonly offset?: number;
  readonly length?: number;
  readonly path?: string;
}

/**
 * The only error class that leaves src/block and the drivers.
 * Text: action, subject in quotes, colon, what is, what was wanted:
 * `Cannot open image "a.qcow2": cluster_bits is 40, must be 9 to 21`.
 */
export class BlockError extends Error {
  override readonly name = 'BlockError';
  readonly code: ErrnoCode;
  readonly context: ErrorContext;

  constructor(code: ErrnoCode, message: string, context: ErrorContext = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.context = context;
  }
}

/** The same error with context it lacks added; what it already names is kept. */
export function withContext(error: unknown, context: ErrorContext): BlockError {
  if (error instanceof BlockError) {
    return new BlockError(
      error.code,
      error.message,
      { ...context, ...error.context },
      error.cause ?? undefined,
    );
  }
  const message = error instanceof Error ? error.message : String(error);
  return new BlockError(errnoOf(error), message, context, error);
}

/** The errno name of any thrown value; EIO where it carries none. */
export function errnoOf(error: unknown): ErrnoCode {
  if (error instanceof BlockError) return error.code;
  if (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    /^E[A-Z0-9]+$/.test(error.code)
  ) {
    return error.code === 'EOPNOTSUPP' ? 'ENOTSUP' : (error.code as ErrnoCode);
  }
  return 'EIO';
}
