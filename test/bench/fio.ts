import { tool } from '../helpers/tools.ts';
import { output } from './process.ts';

export interface Load {
  readonly pattern: 'read' | 'write' | 'randread' | 'randwrite';
  /** Bytes of a request. */
  readonly block: number;
  readonly jobs: number;
  readonly direct: boolean;
  /** Bytes that all jobs together move, instead of running for a time. */
  readonly amount?: number;
  /** What the kernel has cached of the file itself stays: the host's file would be cold otherwise. */
  readonly keepCache?: boolean;
}

/** Runs fio (psync) over a file and resolves to bytes per second. */
export async function runFio(file: string, size: number, load: Load, seconds: number): Promise<number> {
  const text = await output(tool('fio'), fioArguments(file, size, load, seconds));
  const report = JSON.parse(text.slice(text.indexOf('{'))) as FioReport;
  const [job] = report.jobs;
  if (job === undefined || job.error !== 0)
    throw new Error(`fio on "${file}" failed: error ${job?.error ?? 'unknown'}`);
  return load.pattern.endsWith('read') ? job.read.bw_bytes : job.write.bw_bytes;
}

interface FioReport {
  readonly jobs: { readonly error: number; readonly read: Side; readonly write: Side }[];
}
interface Side {
  readonly bw_bytes: number;
}

function fioArguments(file: string, size: number, load: Load, seconds: number): string[] {
  const { pattern, block, jobs, direct, amount } = load;
  const random = pattern.startsWith('rand') ? ['--norandommap', '--randrepeat=0'] : [];
  const extent =
    amount === undefined
      ? ['--time_based', `--runtime=${seconds}`]
      : [`--io_size=${Math.floor(amount / jobs)}`];
  return [
    '--name=bench',
    `--filename=${file}`,
    `--size=${size}`,
    `--rw=${pattern}`,
    `--bs=${block}`,
    `--direct=${direct ? 1 : 0}`,
    `--numjobs=${jobs}`,
    '--ioengine=psync',
    '--thread',
    '--group_reporting',
    '--output-format=json',
    '--allow_file_create=0',
    '--fallocate=none',
    `--invalidate=${load.keepCache === true ? 0 : 1}`,
    '--randseed=' + String(Math.floor(Math.random() * 2 ** 31)),
    ...random,
    ...extent,
  ];
}
