import type { CheckResult } from './driver.ts';
import type { Child } from './child.ts';

/** Cuts off the allocation units behind the last one in use (`imageEndOffset`); the result tells of them as fixed leaks. */
export async function cutLeakedEnd(file: Child, result: CheckResult, unit: number): Promise<void> {
  const { imageEndOffset: end = file.size } = result;
  if (file.size <= end) return;
  const count = Math.min(result.leaks, Math.ceil((file.size - end) / unit));
  await file.resize(end, true);
  result.leaks -= count;
  result.leaksFixed += count;
}
