import type { RunningServer } from '../sys/running-servers.ts';

/** Columns as wide as their widest cell, two blanks between. */
export function renderTable(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heading, ...rows];
  const widths = heading.map((_, column) => Math.max(...all.map((cells) => (cells[column] ?? '').length)));
  return all
    .map((cells) =>
      cells
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export function renderServers(servers: readonly RunningServer[]): string {
  const rows = servers.flatMap((server) =>
    server.mounts.map((mount) => [
      mount.device === undefined ? mount.mountpoint : [mount.device, mount.folder].filter(Boolean).join(' '),
      mount.image,
      mount.node,
      mount.format,
      mount.readOnly ? 'read-only' : 'read-write',
      String(server.pid),
      server.started,
    ]),
  );
  return renderTable(['MOUNTPOINT', 'IMAGE', 'NODE', 'FORMAT', 'ACCESS', 'PID', 'SINCE'], rows);
}
