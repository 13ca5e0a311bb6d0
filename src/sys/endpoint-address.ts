const LOOPBACK = '127.0.0.1';

/** Where to listen. */
export type EndpointAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** `9100`, `:9100`, `localhost:9100`, `[::1]:9100`, `unix:PATH`; undefined when it is none of these. */
export function parseEndpointAddress(text: string): EndpointAddress | undefined {
  if (text.startsWith('unix:')) return text.length > 5 ? { kind: 'unix', path: text.slice(5) } : undefined;
  const match = /^(?:(?:\[([0-9a-f:.]+)\]|([^:[\]]*)):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) return undefined;
  return { kind: 'tcp', host: match[1] ?? (match[2] || LOOPBACK), port };
}
