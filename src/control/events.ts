/** Every event that a client may get; a program may rely on these names. */
export const EVENTS = [
  'BLOCK_EXPORT_DELETED',
  'BLOCK_IMAGE_CORRUPTED',
  'BLOCK_IO_ERROR',
  'BLOCK_WRITE_THRESHOLD',
  'JOB_STATUS_CHANGE',
  'QUORUM_FAILURE',
  'QUORUM_REPORT_BAD',
] as const;

export type Emit = (name: string, data: Readonly<Record<string, unknown>>) => void;
