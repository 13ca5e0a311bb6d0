/** Components that say what they do when DEBUG names them, for the help and the manual. A test finds those that are missing. */
export const LOG_COMPONENTS: readonly { readonly name: string; readonly summary: string }[] = [
  { name: 'server', summary: 'start and end of a server, its exports' },
  { name: 'graph', summary: 'nodes that are opened and closed' },
  { name: 'fuse', summary: "the mount: the kernel's requests but for reads and writes" },
  { name: 'control', summary: 'commands over control sockets' },
  { name: 'jobs', summary: 'jobs and their states' },
  { name: 'qcow2', summary: 'metadata of qcow2 images' },
  { name: 'log', summary: 'what passes the log filter' },
  { name: 'data', summary: 'each request that has to wait, by node: much' },
];

/** How they are chosen. */
export const LOG_EXAMPLE = 'DEBUG=blockfuse:*,-blockfuse:data';
