import { isIdentifier } from '../../block/objects.ts';
import { expandDotted, isTree } from '../../block/options.ts';
import type { OptionsTree } from '../../block/options.ts';
import * as v from 'valibot';
import { size, text } from '../../block/schema.ts';
import type { Job } from '../../jobs/job.ts';
import { CommandError, defineControlCommand } from '../command.ts';
import type { ControlCommand } from '../command.ts';
import { createArguments, createJob } from '../create-job.ts';
import type { ControlHost } from '../host.ts';
import { refuseOtherTypes, refuseOtherTypesInNode } from '../wrong-argument.ts';

const ID = { id: text('Id of the job') } as const;
const TREE = v.custom<OptionsTree>(isTree, 'must be an object');

/** Work that goes on after its command was answered. */
export function jobCommands(host: ControlHost): readonly ControlCommand[] {
  const { jobs } = host;
  const find = (id: string): Job => {
    const job = jobs.find(id);
    if (job === undefined) throw new CommandError('GenericError', 'Job not found');
    return job;
  };
  return [
    create(host),
    defineControlCommand({
      name: 'query-jobs',
      summary: 'Lists the jobs',
      arguments: {},
      run: async () => jobs.all.map(describeJob),
    }),
    defineControlCommand({
      name: 'job-dismiss',
      summary: 'Forgets a job that has ended',
      arguments: ID,
      run: async ({ id }) => {
        find(id).dismiss();
      },
    }),
    defineControlCommand({
      name: 'job-cancel',
      summary: 'Ends a job before its time',
      arguments: ID,
      run: async ({ id }) => {
        find(id).cancel();
      },
    }),
    defineControlCommand({
      name: 'job-finalize',
      summary: 'Lets a job that waits for it take effect',
      arguments: ID,
      run: async ({ id }) => {
        find(id).finalize();
      },
    }),
  ];
}

function describeJob(job: Job): Readonly<Record<string, unknown>> {
  return {
    id: job.id,
    type: job.type,
    status: job.status,
    'current-progress': job.progress.current,
    'total-progress': job.progress.total,
    ...(job.error === undefined ? {} : { error: job.error }),
  };
}

function create(host: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'blockdev-create',
    summary: 'Creates an image, as a job',
    arguments: { 'job-id': text('Id of the job'), options: TREE },
    run: async ({ 'job-id': id, options }) => {
      if (!isIdentifier(id)) throw new CommandError('GenericError', `Invalid job ID '${id}'`);
      if (host.jobs.find(id) !== undefined)
        throw new CommandError('GenericError', `Job ID '${id}' already in use`);
      const { driver, ...rest } = expandDotted(options);
      if (typeof driver !== 'string') throw new CommandError('GenericError', "Parameter 'driver' is missing");
      const known = host.graph.drivers.get(driver);
      if (known === undefined)
        throw new CommandError('GenericError', `Parameter 'driver' does not accept value '${driver}'`);
      refuseOtherTypes(createArguments(known), rest, 'options.');
      if (isTree(rest['file'])) refuseOtherTypesInNode(host.graph.drivers, rest['file'], 'options.file.');
      const given = v.safeParse(size('Size'), rest['size']);
      if (!given.success) throw new CommandError('GenericError', "Parameter 'size' is missing");
      const place = driver === 'file' ? 'filename' : 'file';
      if (rest[place] === undefined)
        throw new CommandError('GenericError', `Parameter 'options.${place}' is missing`);
      host.jobs.start({ id, type: 'create', run: createJob(host, driver, given.output, rest) });
    },
  });
}
