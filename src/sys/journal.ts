import { fstatSync } from 'node:fs';

/** Whether standard error is a stream of the journal, as $JOURNAL_STREAM (device:inode) tells; it adds time and name itself. */
export function errorsGoToJournal(): boolean {
  const [device, inode] = (process.env['JOURNAL_STREAM'] ?? '').split(':');
  if (device === undefined || inode === undefined) return false;
  const { dev, ino } = fstatSync(2, { bigint: true });
  return String(dev) === device && String(ino) === inode;
}
