import test from 'ava';
import { integer, optional, text } from '../../src/block/schema.ts';
import { CommandError, defineControlCommand } from '../../src/control/command.ts';
import { JsonSplitter } from '../../src/control/framing.ts';
import { ControlServer } from '../../src/control/server.ts';

test('JsonSplitter hands out whole texts, however they come', (t) => {
  const splitter = new JsonSplitter();
  t.deepEqual(splitter.push('{"a": 1}{"b": "}{"'), ['{"a": 1}']);
  t.deepEqual(splitter.push('}\r\n\n {"c": "\\"}"'), ['{"b": "}{"}']);
  t.deepEqual(splitter.push('}'), ['{"c": "\\"}"}']);
  t.deepEqual(splitter.push('[1, {"x": 2}]'), ['[1, {"x": 2}]']);
});

test('JsonSplitter: a stray word ends with its line', (t) => {
  const splitter = new JsonSplitter();
  t.deepEqual(splitter.push('help\n{"a": 1}'), ['help', '{"a": 1}']);
});

test('JsonSplitter: each cut of a stream gives the same texts', (t) => {
  const stream = '{"execute": "x", "id": "\\\\"}\n{"execute": "{[\\"", "a": [{}, []]}';
  const whole = new JsonSplitter().push(stream);
  t.is(whole.length, 2);
  for (let cut = 0; cut <= stream.length; cut += 1) {
    const splitter = new JsonSplitter();
    t.deepEqual([...splitter.push(stream.slice(0, cut)), ...splitter.push(stream.slice(cut))], whole);
  }
});

test('JsonSplitter refuses a request without end', (t) => {
  const splitter = new JsonSplitter();
  const chunk = '['.repeat(1_000_000);
  t.throws(
    () => {
      for (let count = 0; count < 6; count += 1) splitter.push(chunk);
    },
    { instanceOf: RangeError },
  );
});

function connect() {
  const server = new ControlServer({ numbers: [1, 2, 3], program: 'test' }, [
    defineControlCommand({
      name: 'add',
      summary: 'Adds',
      arguments: {
        one: integer('A number'),
        other: optional(integer('A number'), 1),
        note: optional(text('Text')),
      },
      run: async ({ one, other }) => one + other,
    }),
    defineControlCommand({
      name: 'fail',
      summary: 'Fails',
      arguments: {},
      run: () => Promise.reject(new CommandError('DeviceNotFound', 'no such thing')),
    }),
    defineControlCommand({
      name: 'slow',
      summary: 'Takes its time',
      arguments: {},
      run: () => new Promise((resolve) => setTimeout(resolve, 20, 'slow')),
    }),
  ]);
  const lines: unknown[] = [];
  const { session, close } = server.connect((line) => lines.push(JSON.parse(line)));
  const ask = async (...requests: unknown[]): Promise<unknown[]> => {
    lines.length = 0;
    for (const request of requests) {
      session.receive(typeof request === 'string' ? request : JSON.stringify(request));
    }
    while (lines.length < requests.length) await new Promise((resolve) => setTimeout(resolve, 5));
    return [...lines];
  };
  return { server, lines, ask, close };
}

const negotiate = { execute: 'qmp_capabilities' };

test('session: greeting, then nothing but the negotiation', async (t) => {
  const { lines, ask } = connect();
  t.deepEqual(lines, [
    { QMP: { version: { qemu: { major: 1, minor: 2, micro: 3 }, package: 'test' }, capabilities: ['oob'] } },
  ]);
  const [refused] = (await ask({ execute: 'add', arguments: { one: 1 }, id: 7 })) as {
    error: { class: string };
    id: number;
  }[];
  t.is(refused?.error.class, 'CommandNotFound');
  t.is(refused?.id, 7);
  t.deepEqual(await ask(negotiate), [{ return: {} }]);
});

test('session: answers in order, with the id of the request', async (t) => {
  const { ask } = connect();
  await ask(negotiate);
  const answers = await ask(
    { execute: 'slow', id: 'a' },
    { execute: 'add', arguments: { one: 1, other: 2 }, id: { b: 1 } },
    { execute: 'add', arguments: { one: 1 } },
  );
  t.deepEqual(answers, [{ return: 'slow', id: 'a' }, { return: 3, id: { b: 1 } }, { return: 2 }]);
});

const refused = test.macro(async (t, request: unknown, errorClass: string, desc: RegExp) => {
  const { ask } = connect();
  await ask(negotiate);
  const [answer] = (await ask(request)) as { error: { class: string; desc: string } }[];
  t.is(answer?.error.class, errorClass);
  t.regex(answer?.error.desc ?? '', desc);
});

test('session: unknown command', refused, { execute: 'nix' }, 'CommandNotFound', /nix has not been found/);
test('session: no JSON', refused, '{"execute": }', 'GenericError', /JSON parse error/);
test('session: no command', refused, {}, 'GenericError', /lacks member 'execute'/);
test('session: an error keeps its class', refused, { execute: 'fail' }, 'DeviceNotFound', /no such thing/);
test('session: missing argument', refused, { execute: 'add' }, 'GenericError', /'one' is missing/);
test(
  'session: unknown argument',
  refused,
  { execute: 'add', arguments: { one: 1, two: 2 } },
  'GenericError',
  /'two' is unexpected/,
);
test(
  'session: wrong argument',
  refused,
  { execute: 'add', arguments: { one: 'x' } },
  'GenericError',
  /Invalid parameter type for 'one', expected: integer/,
);

test('query-commands lists what there is; events reach those who negotiated', async (t) => {
  const { server, ask, lines } = connect();
  server.event('EARLY', {});
  await ask(negotiate);
  const [commands] = (await ask({ execute: 'query-commands' })) as { return: { name: string }[] }[];
  t.deepEqual(
    commands?.return.map(({ name }) => name),
    ['add', 'fail', 'query-commands', 'query-qmp-schema', 'query-version', 'slow'],
  );
  lines.length = 0;
  server.event('BLOCK_JOB_COMPLETED', { device: 'x' });
  const [event] = lines as { event: string; data: unknown; timestamp: { seconds: number } }[];
  t.is(event?.event, 'BLOCK_JOB_COMPLETED');
  t.deepEqual(event?.data, { device: 'x' });
  t.true((event?.timestamp.seconds ?? 0) > 1e9);
});
