import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { DRIVERS } from '../../drivers/index.ts';
import { configSchemaText, SCHEMA_FILE } from '../../packaging/reference/config-schema.ts';

test('the published schema of configurations is that of the sources: npm run docs writes it', async (t) => {
  const file = fileURLToPath(new URL(`../../${SCHEMA_FILE}`, import.meta.url));
  t.is(await readFile(file, 'utf8'), configSchemaText());
});

test('the schema has every driver with its options, children as nodes or names', (t) => {
  const schema = JSON.parse(configSchemaText()) as { $defs: Record<string, { properties: object }> };
  for (const { name, options, children } of DRIVERS) {
    const properties = Object.keys(schema.$defs[name]?.properties ?? {});
    for (const option of [...Object.keys(options), ...Object.keys(children)])
      t.true(properties.includes(option.split('.')[0] ?? ''), `${name}: ${option}`);
  }
});
