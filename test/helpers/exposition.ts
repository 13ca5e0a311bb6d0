import type { ExecutionContext } from 'ava';

/** Every line is a comment or a sample; each sample follows its metric's HELP and TYPE; histograms add up. */
export function checkExposition(t: ExecutionContext, text: string): void {
  t.true(text.endsWith('\n'));
  const types = new Map<string, string>();
  const samples = new Set<string>();
  const label = String.raw`[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"`;
  const sample = new RegExp(
    String.raw`^([a-zA-Z_:][\w:]*)(\{${label}(?:,${label})*\})? (-?\d[\d.e+-]*|NaN|\+Inf)$`,
  );
  let last = 0;
  for (const line of text.trimEnd().split('\n')) {
    const [, name, type] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? [];
    if (name !== undefined && type !== undefined) types.set(name, type);
    if (line.startsWith('#')) continue;
    const [, found = '', labels = '', value] = sample.exec(line) ?? [];
    t.true(found !== '', line);
    t.true(!samples.has(found + labels), `twice: ${line}`);
    samples.add(found + labels);
    const base = types.has(found) ? found : found.replace(/_(bucket|sum|count)$/, '');
    t.true(types.has(base), line);
    t.true((types.get(base) === 'counter') === found.endsWith('_total'), line);
    if (found.endsWith('_bucket')) {
      if (labels.includes('le="0.000001"') || labels.includes('le="1e-6"')) last = 0;
      t.true(Number(value) >= last, 'buckets are cumulative');
      last = Number(value);
    }
  }
}
