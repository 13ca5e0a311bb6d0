import type { OpenContext, RequestDriver } from '../../../src/block/driver.ts';
import { defineDriver } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import type { OptionsOf } from '../../../src/block/schema.ts';
import { bool, integer, optional, size, text } from '../../../src/block/schema.ts';

const SECTOR = 512;
const READ_AHEAD_MAX = 16 * 1024 * 1024;

const OPTIONS = {
  url: text('URL of the file'),
  readahead: optional(size('Bytes that are asked for at once'), 256 * 1024),
  timeout: optional(integer('Seconds that the server may take to answer', 1, 86_400), 5),
  cookie: optional(text('Cookies to send: name=value; name=value')),
  'cookie-secret': optional(text('Id of a secret with the cookies')),
  username: optional(text('User name')),
  'password-secret': optional(text('Id of a secret with the password')),
};
const SECURE_OPTIONS = {
  ...OPTIONS,
  sslverify: optional(bool('Check the certificate of the server'), true),
};
type Options = OptionsOf<typeof OPTIONS> & Partial<OptionsOf<typeof SECURE_OPTIONS>>;

async function open(context: OpenContext<Options>, scheme: string): Promise<RequestDriver> {
  const { options, common } = context;
  const url = URL.canParse(options.url) ? new URL(options.url) : undefined;
  const name = url === undefined ? options.url : withoutUser(url);
  const refuse = (why: string, code: 'EINVAL' | 'EROFS' = 'EINVAL'): never => {
    throw new BlockError(code, `Cannot open "${name}": ${why}`);
  };
  if (url?.protocol !== `${scheme}:`) return refuse(`url must begin with ${scheme}://`);
  const { readahead } = options;
  if (readahead < SECTOR || readahead % SECTOR !== 0 || readahead > READ_AHEAD_MAX)
    refuse(`readahead is ${readahead}, must be a multiple of ${SECTOR} up to ${READ_AHEAD_MAX}`);
  if (!common.readOnly && !common.autoReadOnly) refuse('it can only be read; use read-only=on', 'EROFS');
  const headers = await headersOf(context, url);
  const [{ RemoteFile }, { HttpDisk }] = await Promise.all([import('./remote.ts'), import('./disk.ts')]);
  url.username = '';
  url.password = '';
  url.hash = '';
  const { sslverify = true, timeout } = options;
  const file = new RemoteFile({ url, name, headers, sslVerify: sslverify, timeout: timeout * 1000 });
  try {
    await file.open(readahead);
    if (file.whole !== undefined && file.size > 0)
      context.warn(`the server knows no ranges: all ${file.size} bytes are kept in memory`);
    return new HttpDisk(file, name, readahead);
  } catch (error) {
    file.close();
    throw error;
  }
}

async function headersOf(
  { options, secret }: Pick<OpenContext<Options>, 'options' | 'secret'>,
  url: URL,
): Promise<Record<string, string>> {
  const { cookie, username } = options;
  const textOf = async (id: string | undefined): Promise<string | undefined> =>
    id === undefined ? undefined : (await secret(id))?.toString();
  const cookies = cookie ?? (await textOf(options['cookie-secret']));
  const user = username ?? decodeURIComponent(url.username);
  const password = (await textOf(options['password-secret'])) ?? decodeURIComponent(url.password);
  const basic = Buffer.from(`${user}:${password}`).toString('base64');
  return {
    ...(cookies === undefined ? {} : { cookie: cookies }),
    ...(user === '' ? {} : { authorization: `Basic ${basic}` }),
  };
}

function withoutUser(url: URL): string {
  const shown = new URL(url);
  shown.username = '';
  shown.password = '';
  return shown.href;
}

export const httpDriver = defineDriver({
  name: 'http',
  kind: 'protocol',
  summary: 'A file on a web server, to be read',
  onlyRead: true,
  options: OPTIONS,
  children: {},
  prefixes: ['http://'],
  parseFilename: (filename) => ({ url: filename }),
  open: (context) => open(context, 'http'),
});

export const httpsDriver = defineDriver({
  name: 'https',
  kind: 'protocol',
  summary: 'A file on a web server over TLS, to be read',
  onlyRead: true,
  options: SECURE_OPTIONS,
  children: {},
  prefixes: ['https://'],
  parseFilename: (filename) => ({ url: filename }),
  open: (context) => open(context, 'https'),
});
