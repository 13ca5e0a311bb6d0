/** Descriptors that this process was started with, and that a server is to have. */
import type { ServeStep } from './messages.ts';

export function handedDescriptors(steps: readonly ServeStep[]): number[] {
  return handOver(steps, 0).handed;
}

/** The steps with numbers from `first` on in place of those that the descriptors have here. */
export function handOver(
  steps: readonly ServeStep[],
  first: number,
): { steps: ServeStep[]; handed: number[] } {
  const handed: number[] = [];
  const moved = (fd: number): number => {
    if (!handed.includes(fd)) handed.push(fd);
    return first + handed.indexOf(fd);
  };
  const renumbered = steps.map((step): ServeStep => {
    if (step.kind === 'fd') return { ...step, fd: moved(step.fd) };
    if (step.kind !== 'chardev' || step.chardev.backend !== 'socket') return step;
    const { fd } = step.chardev;
    return fd === undefined ? step : { ...step, chardev: { ...step.chardev, fd: moved(fd) } };
  });
  return { steps: renumbered, handed };
}
