/** Statistics in Prometheus's text format, version 0.0.4. */
import { LATENCY_KINDS } from '../../control/stats.ts';
import type { ExportStats, NodeStats, StatsReport, TrafficStats } from '../../control/stats.ts';
import { sum } from './percentile.ts';

type Labels = Readonly<Record<string, string>>;

interface Sample {
  readonly labels: Labels;
  readonly value: number;
  /** Of a histogram: what comes after its name. */
  readonly suffix?: string;
}

interface Metric {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly samples: readonly Sample[];
}

/** @param tellsServers every sample names its server by the process id: for the text of several servers */
export function renderPrometheus(reports: readonly StatsReport[], tellsServers: boolean): string {
  const labelled = reports.map((report) => ({
    report,
    base: (tellsServers ? { pid: String(report.pid) } : {}) as Labels,
  }));
  const metrics = [
    ...serverMetrics(labelled),
    ...trafficMetrics('export', labelled.flatMap(exportsOf)),
    ...exportMetrics(labelled.flatMap(exportsOf)),
    ...trafficMetrics('node', labelled.flatMap(nodesOf)),
    ...cacheMetrics(labelled.flatMap(nodesOf)),
  ];
  return metrics
    .filter(({ samples }) => samples.length > 0)
    .map(renderMetric)
    .join('');
}

interface Labelled {
  readonly report: StatsReport;
  readonly base: Labels;
}

interface Thing<Stats> {
  readonly stats: Stats;
  readonly labels: Labels;
  readonly bounds: readonly number[];
}

const exportsOf = ({ report, base }: Labelled): Thing<ExportStats>[] =>
  report.exports.map((stats) => ({
    stats,
    labels: { ...base, export: stats.id, node: stats.node, file: stats.file },
    bounds: report['latency-bounds'],
  }));

const nodesOf = ({ report, base }: Labelled): Thing<NodeStats>[] =>
  report.nodes.map((stats) => ({
    stats,
    labels: { ...base, node: stats.name, driver: stats.driver, file: stats.filename },
    bounds: report['latency-bounds'],
  }));

function serverMetrics(servers: readonly Labelled[]): Metric[] {
  const each = (value: (report: StatsReport) => number): Sample[] =>
    servers.map(({ report, base }) => ({ labels: base, value: value(report) }));
  const versions = servers.map(({ report, base }) => ({
    labels: { ...base, version: report.version },
    value: 1,
  }));
  return [
    gauge('info', 'Always 1, its label tells the version.', versions),
    gauge(
      'start_time_seconds',
      'When the server started, in seconds since 1970.',
      each(({ started }) => Date.parse(started) / 1000),
    ),
    gauge(
      'resident_memory_bytes',
      'Resident memory of the server.',
      each(({ memory }) => memory),
    ),
    counter(
      'cpu_seconds_total',
      'CPU time that the server has used.',
      each((report) => report['cpu-seconds']),
    ),
  ];
}

type Traffic = TrafficStats & { readonly size: number; readonly allocated?: number | undefined };

/** What exports and nodes have alike. */
function trafficMetrics(what: 'export' | 'node', things: readonly Thing<Traffic>[]): Metric[] {
  const each = (value: (stats: Traffic) => number): Sample[] =>
    things.map(({ stats, labels }) => ({ labels, value: value(stats) }));
  const counts = byOperation(things, requestsOf);
  const bytes = byOperation(things, (stats) => ({
    read: stats['read-bytes'],
    write: stats['written-bytes'],
  }));
  const slow = each((stats) => stats.slow);
  const errors = each((stats) => stats.errors);
  const waiting = each((stats) => stats['in-flight']);
  const sizes = each((stats) => stats.size);
  const allocated = things.flatMap(({ stats, labels }) =>
    stats.allocated === undefined ? [] : [{ labels, value: stats.allocated }],
  );
  return [
    counter(`${what}_requests_total`, 'Requests that were answered without an error.', counts),
    counter(`${what}_bytes_total`, 'Bytes that were read and written.', bytes),
    counter(`${what}_slow_requests_total`, 'Requests that could not be answered at once.', slow),
    counter(`${what}_errors_total`, 'Requests that failed.', errors),
    gauge(`${what}_requests_in_flight`, 'Requests that wait now.', waiting),
    gauge(`${what}_size_bytes`, 'Size of the disk.', sizes),
    gauge(`${what}_allocated_bytes`, 'What the image takes on its medium.', allocated),
  ];
}

function counter(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name: `blockfuse_${name}`, type: 'counter', help, samples };
}

function gauge(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name: `blockfuse_${name}`, type: 'gauge', help, samples };
}

function byOperation(
  things: readonly Thing<TrafficStats>[],
  values: (stats: TrafficStats) => Readonly<Record<string, number>>,
): Sample[] {
  return things.flatMap(({ stats, labels }) =>
    Object.entries(values(stats)).map(([operation, value]) => ({ labels: { ...labels, operation }, value })),
  );
}

function requestsOf({ reads, writes, zeroes, discards, flushes }: TrafficStats): Record<string, number> {
  return { read: reads, write: writes, zero: zeroes, discard: discards, flush: flushes };
}

function exportMetrics(exports: readonly Thing<ExportStats>[]): Metric[] {
  const passed = exports.map(({ stats, labels }) => ({ labels, value: stats.passthrough ? 1 : 0 }));
  return [
    gauge(
      'export_passthrough',
      '1 while the kernel does the I/O of the file itself: it is not counted then.',
      passed,
    ),
    {
      name: 'blockfuse_export_request_duration_seconds',
      type: 'histogram',
      help: 'How long requests took. Of those answered at once, one of sixteen is timed and stands for the others.',
      samples: exports.flatMap(histograms),
    },
  ];
}

function histograms({ stats, labels, bounds }: Thing<ExportStats>): Sample[] {
  return LATENCY_KINDS.flatMap((operation) => {
    const { buckets, total } = stats.latency[operation];
    const own = { ...labels, operation };
    let before = 0;
    const steps = bounds.map((bound, index): Sample => {
      before += buckets[index] ?? 0;
      return { suffix: '_bucket', labels: { ...own, le: String(bound / 1e6) }, value: before };
    });
    const count = sum(buckets);
    return [
      ...steps,
      { suffix: '_bucket', labels: { ...own, le: '+Inf' }, value: count },
      { suffix: '_sum', labels: own, value: total / 1e6 },
      { suffix: '_count', labels: own, value: count },
    ];
  });
}

function cacheMetrics(nodes: readonly Thing<NodeStats>[]): Metric[] {
  const each = (value: (cache: NodeStats['caches'][number]) => number): Sample[] =>
    nodes.flatMap(({ stats, labels }) =>
      stats.caches.map((cache) => ({ labels: { ...labels, cache: cache.name }, value: value(cache) })),
    );
  const found = each(({ hits }) => hits);
  const missing = each(({ misses }) => misses);
  const held = each(({ bytes }) => bytes);
  const most = each(({ capacity }) => capacity);
  return [
    counter('node_cache_hits_total', 'Found in the cache.', found),
    counter('node_cache_misses_total', 'Not found in the cache.', missing),
    gauge('node_cache_bytes', 'Held in the cache.', held),
    gauge('node_cache_capacity_bytes', 'What the cache may hold.', most),
  ];
}

function renderMetric({ name, type, help, samples }: Metric): string {
  const lines = samples.map(
    ({ suffix = '', labels, value }) => `${name}${suffix}${renderLabels(labels)} ${value}\n`,
  );
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`;
}

function renderLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' };
const escaped = (value: string): string => value.replaceAll(/[\\"\n]/g, (each) => ESCAPES[each] ?? each);
