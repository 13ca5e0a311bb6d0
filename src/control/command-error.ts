export type ErrorClass = 'GenericError' | 'CommandNotFound' | 'DeviceNotFound';

/** What a command answers with when it can't; every other error becomes a GenericError with the error's text. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly errorClass: ErrorClass;

  constructor(errorClass: ErrorClass, message: string) {
    super(message);
    this.errorClass = errorClass;
  }
}
