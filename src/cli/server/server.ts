/**
 * A server: one graph, the exports that show its nodes, and a control socket. `blockfuse mount` makes one with one node
 * and one export, `blockfuse serve` one with whatever it was told. What a signal, an unmount from outside and the control
 * socket lead to is the same end:
 *
 *   serving --end(lazy)--> exports end one by one (unmount, flush) --> close the graph --> ended: exit code 0, or 1 with errors
 *      ^------- EBUSY --------'
 */
import debug from 'debug';
import { BlockError, errnoOf } from '../../block/errors.ts';
import type { Graph } from '../../block/graph.ts';
import type { GraphSetup } from '../../block/graph.ts';
import { ControlServer } from '../../control/server.ts';
import { Jobs } from '../../jobs/jobs.ts';
import { listenControl } from '../../sys/control-socket.ts';
import type { ControlListener } from '../../sys/control-socket.ts';
import { addToFdSet } from '../../sys/fdsets.ts';
import { removePidFile, writePidFile } from '../../sys/pid-file.ts';
import { processStart } from '../../sys/processes.ts';
import { controlSocketPath, enterServer, removeServer } from '../../sys/running-servers.ts';
import type { RunningServer } from '../../sys/running-servers.ts';
import { makeGraph } from '../open-graph.ts';
import { complain } from '../output.ts';
import { allocatedSize } from '../../block/storage.ts';
import type { TextEndpoint } from '../../sys/text-endpoint.ts';
import { VERSION, versionNumbers } from '../version.ts';
import { controlCommands } from './control-commands.ts';
import { converse } from './converse.ts';
import { driverLists } from './driver-lists.ts';
import { Exports } from './exports.ts';
import type { ServeRequest, ServeStep } from './messages.ts';
import { Monitors } from './monitors.ts';
import { SERVER_OBJECT_TYPES } from './objects.ts';
import { detectZeroes } from './detect-zeroes.ts';
import { openBlockdev } from './temporary-overlay.ts';

const log = debug('blockfuse:server');

export class Server {
  readonly graph: Graph;
  readonly exports: Exports;
  readonly jobs: Jobs;
  /** The exit code, once everything is closed and nothing of the server is left but the process. */
  readonly ended: Promise<number>;
  /** Called when it is certain that the server ends; may be called again. */
  ending: () => void = () => undefined;
  private readonly request: ServeRequest;
  private readonly control: ControlServer;
  private readonly monitors: Monitors;
  private readonly entry: Omit<RunningServer, 'mounts'>;
  private listener: ControlListener | undefined;
  private endpoint: TextEndpoint | undefined;
  private isAnnounced = false;
  /** The close of the graph, once begun: whoever ends the server waits for the same one. */
  private closing: Promise<void> | undefined;
  /** What could not be written when an export ended from outside. */
  private failure: unknown;
  private finish: (code: number) => void = () => undefined;

  private constructor(
    request: ServeRequest,
    warn: (message: string) => void,
    askSecret: GraphSetup['askSecret'],
  ) {
    this.request = request;
    const event: GraphSetup['event'] & object = (name, data) => {
      this.emit(name, data);
    };
    this.graph = makeGraph(request.gate, warn, {
      event,
      objectTypes: SERVER_OBJECT_TYPES,
      refuseDriver: driverLists(request.drivers),
      ...(askSecret === undefined ? {} : { askSecret }),
    });
    this.jobs = new Jobs(({ id, status }) => {
      event('JOB_STATUS_CHANGE', { status, id });
    });
    this.exports = new Exports(this.graph, {
      warn,
      event,
      changed: () => {
        this.exportsChanged();
      },
      failed: (error) => {
        this.failure ??= error;
        complainOf(error);
      },
    });
    this.control = new ControlServer(
      { numbers: versionNumbers(), program: `blockfuse ${VERSION}` },
      controlCommands(this),
    );
    this.monitors = new Monitors(this.control);
    this.ended = new Promise((resolve) => {
      this.finish = resolve;
    });
    this.entry = {
      pid: process.pid,
      startTime: processStart(process.pid) ?? 0,
      started: new Date().toISOString(),
      socket: controlSocketPath(process.pid),
      log: request.log,
    };
  }

  /** Tells every client of the control sockets. */
  emit(name: string, data: Readonly<Record<string, unknown>>): void {
    this.control.event(name, data);
  }

  /** Does all the steps and makes the server known. Rejects with nothing left behind. */
  static async start(
    { secrets, ...request }: ServeRequest,
    warn: (message: string) => void,
    ask?: GraphSetup['askSecret'],
  ): Promise<Server> {
    const server = new Server(request, warn, ask);
    for (const { id, data } of secrets ?? []) server.graph.secrets.add(id, Buffer.from(data, 'base64'));
    try {
      for (const step of request.steps) await server.apply(step);
      await server.announce();
    } catch (error) {
      await server.exports.removeAll(server.exports.all, true).catch(complainOf);
      await server.graph.close().catch(complainOf);
      await server.vanish();
      throw error;
    }
    server.watch();
    log('serving %o', server.exports.mounts);
    return server;
  }

  /** Where Prometheus may ask. */
  get metrics(): string | undefined {
    return this.endpoint?.address;
  }

  /** ISO 8601. */
  get started(): string {
    return this.entry.started;
  }

  /** What the entry in the list of servers says, and what went through each export. */
  describe(): Readonly<Record<string, unknown>> {
    const { pid, started } = this.entry;
    const exported = this.exports.all.map(describeExport);
    const nodes = [...this.graph.nodes.values()].map(({ name, driver, counters }) => ({
      name,
      driver: driver.name,
      counters,
    }));
    return {
      pid,
      started,
      version: VERSION,
      mounts: this.exports.mounts,
      exports: exported,
      disk: { ...exported[0], nodes },
      nodes,
    };
  }

  /** Whether the server goes when these exports go. */
  endsWithout(count: number): boolean {
    return this.request.endsWithLastExport && this.exports.size <= count;
  }

  /**
   * Unmounts, flushes and closes. Rejects with EBUSY when in use and not `lazy` (the server goes on), or with what could
   * not be written (the server ends all the same). The process ends after this has settled.
   */
  async end(lazy: boolean): Promise<void> {
    log('asked to end, lazy=%s', lazy);
    let failure: unknown;
    await this.exports.removeAll(this.exports.all, lazy).catch((error: unknown) => {
      if (this.exports.size > 0) this.goOn(error);
      failure = error;
    });
    await this.close(failure);
  }

  /** Some exports stay. What was lost with one that has ended is told now, and by the exit code in the end. */
  private goOn(error: unknown): never {
    if (errnoOf(error) === 'EBUSY') throw error;
    if (this.failure !== error) complainOf(error);
    this.failure ??= error;
    const left = this.exports.all.map(({ fuse }) => fuse.label).join(', ');
    throw new BlockError('EBUSY', `Cannot end: ${left} could not be ended`, {}, error);
  }

  private async apply(step: ServeStep): Promise<void> {
    switch (step.kind) {
      case 'blockdev':
        detectZeroes(await openBlockdev(this.graph, step.options), step.detectZeroes === true);
        return;
      case 'export':
        await this.exports.add(step.spec);
        return;
      case 'object':
        this.graph.addObject(step.type, step.id, step.options);
        return;
      case 'fd':
        addToFdSet(step.fd, step.set, step.opaque);
        return;
      case 'chardev':
        this.monitors.addChardev(step.chardev);
        return;
      case 'monitor':
        await this.monitors.addMonitor(step.chardev, step.pretty);
    }
  }

  /** Control socket, list of servers, pid file. */
  private async announce(): Promise<void> {
    this.listener = listenControl(this.entry.socket, (connection) => converse(this.control, connection));
    const { metrics } = this.request;
    if (metrics !== undefined)
      this.endpoint = await (await import('./metrics.ts')).serveMetrics(this, metrics);
    this.enter();
    this.isAnnounced = true;
    if (this.request.pidFile !== undefined) writePidFile(this.request.pidFile);
  }

  private enter(): void {
    enterServer({ ...this.entry, metrics: this.metrics, mounts: this.exports.mounts });
  }

  private exportsChanged(): void {
    if (this.isAnnounced && this.closing === undefined) this.enter();
    if (this.isAnnounced && this.endsWithout(0)) void this.close(this.failure).catch(() => undefined);
  }

  /** Everything is closed; the process may go. */
  private async close(failure: unknown): Promise<void> {
    const isFirst = this.closing === undefined;
    this.closing ??= this.closeGraph(failure);
    const error = await this.closing.then(
      () => undefined,
      (reason: unknown) => reason ?? new Error('unknown'),
    );
    if (isFirst) this.leave(error);
    if (error !== undefined) throw error;
  }

  private async closeGraph(failure: unknown): Promise<void> {
    this.ending();
    await this.jobs.close();
    const error = await this.graph.close().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    const first = failure ?? this.failure ?? error;
    if (first !== undefined) throw first;
  }

  private leave(error: unknown): void {
    log('closed, error=%s', error);
    if (error !== undefined && error !== this.failure) complainOf(error);
    // In the next turn, so that whoever asked for the end over the control socket gets the answer out first.
    setImmediate(() => {
      void this.vanish(error !== undefined).finally(() => {
        this.finish(error === undefined ? 0 : 1);
      });
    });
  }

  private watch(): void {
    const terminate = (): void => {
      void this.terminate();
    };
    process.on('SIGTERM', terminate);
    process.on('SIGINT', terminate);
    // The terminal that started it may close.
    process.on('SIGHUP', () => undefined);
    // Unmounted already, while the rest was being set up.
    this.exportsChanged();
  }

  /** A signal must end the server: what is in use is detached, its users get errors from then on. */
  private async terminate(): Promise<void> {
    this.ending();
    try {
      await this.end(false);
    } catch (error) {
      if (!(error instanceof BlockError) || error.code !== 'EBUSY') return;
      complain(`${error.message}; detached because of a signal`);
      await this.end(true).catch(() => undefined);
    }
  }

  private async vanish(keepLog = false): Promise<void> {
    await this.listener?.close();
    await this.endpoint?.close();
    await this.monitors.close();
    if (this.request.pidFile !== undefined) removePidFile(this.request.pidFile);
    removeServer(this.entry, keepLog);
  }
}

function describeExport(disk: Exports['all'][number]): Readonly<Record<string, unknown>> {
  const { spec, node, fuse, place } = disk;
  return {
    id: spec.id,
    node: node.name,
    mountpoint: place?.path,
    file: place?.fileOf(disk),
    size: node.size,
    allocated: allocatedSize(node),
    passthrough: place?.mounted?.passthrough ?? false,
    export: fuse.counters,
  };
}

function complainOf(error: unknown): void {
  complain(error instanceof Error ? error.message : String(error));
}
