/** `npm run docs`: writes the manual pages and completions below dist/share/, and the schema of configurations. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { configSchemaText, SCHEMA_FILE } from './config-schema.ts';
import { referenceFiles } from './files.ts';

const folder = fileURLToPath(new URL('../../dist/share', import.meta.url));
const seconds = process.env['SOURCE_DATE_EPOCH'];
const date = seconds === undefined ? new Date() : new Date(Number(seconds) * 1000);

rmSync(folder, { recursive: true, force: true });
for (const { path, text } of referenceFiles(date.toISOString().slice(0, 10))) {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

writeFileSync(fileURLToPath(new URL(`../../${SCHEMA_FILE}`, import.meta.url)), configSchemaText());
