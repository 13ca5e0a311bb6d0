import { readText } from './processes.ts';

/** Whether the system lets this user open a mount to others: root always, others where /etc/fuse.conf says so. */
export function mayAllowOther(): boolean {
  return process.geteuid?.() === 0 || /^\s*user_allow_other\s*$/m.test(readText('/etc/fuse.conf'));
}
