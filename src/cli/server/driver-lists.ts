import type { GraphSetup } from '../../block/graph.ts';
import type { DriverLists } from './messages.ts';

/** Which drivers may be used, in which mode. */
export function driverLists(lists: DriverLists | undefined): GraphSetup['refuseDriver'] & object {
  if (lists === undefined) return () => undefined;
  const { writable, readOnly } = lists;
  return (driver, isReadOnly) => {
    if (writable.includes(driver)) return undefined;
    if (!readOnly.includes(driver)) return `Driver '${driver}' is not whitelisted`;
    return isReadOnly ? undefined : `Driver '${driver}' can only be used for read-only devices`;
  };
}
