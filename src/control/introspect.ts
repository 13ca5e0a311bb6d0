/** query-qmp-schema: the commands and their arguments as QAPI introspection tells them, made from the schemas. */
import type * as v from 'valibot';
import type { OptionEntries } from '../block/schema.ts';
import { isOptional, kindOf } from '../block/schema-kind.ts';
import type { ControlCommand } from './command.ts';
import { EVENTS } from './events.ts';

type Entry = Readonly<Record<string, unknown>>;

const BUILTINS: Readonly<Record<string, string>> = {
  any: 'value',
  bool: 'boolean',
  int: 'int',
  null: 'null',
  str: 'string',
};

export function introspect(commands: readonly ControlCommand[]): readonly Entry[] {
  const types = new Types();
  const named = commands.map((command) => ({
    name: command.name,
    'meta-type': 'command',
    'arg-type': types.object(command.arguments, command.open === true),
    'ret-type': 'any',
    'allow-oob': true,
  }));
  const events = EVENTS.map((name) => ({ name, 'meta-type': 'event', 'arg-type': types.object({}, true) }));
  return [...named, ...events, ...types.all];
}

/** Types that were used so far. Types have numbers for names, as QEMU's do: clients must not rely on them. */
class Types {
  private readonly entries: Entry[] = [];
  private readonly byContent = new Map<string, string>();
  private readonly used = new Set<string>(['any']);

  get all(): readonly Entry[] {
    const builtins = [...this.used].map((name) => ({
      name,
      'meta-type': 'builtin',
      'json-type': BUILTINS[name],
    }));
    return [...builtins, ...this.entries];
  }

  /** @param open takes further members, options of drivers: clients see that in `features` */
  object(entries: OptionEntries, open: boolean): string {
    const members = Object.entries(entries).map(([name, schema]) => ({
      name,
      type: this.type(schema),
      ...(isOptional(schema) ? { default: null } : {}),
    }));
    return this.add({ 'meta-type': 'object', members, ...(open ? { features: ['x-open'] } : {}) });
  }

  private type(schema: v.GenericSchema): string {
    const kind = kindOf(schema);
    switch (kind.kind) {
      case 'enum':
        return this.add({
          'meta-type': 'enum',
          members: kind.values.map((name) => ({ name })),
          values: kind.values,
        });
      case 'list': {
        const item = this.type(kind.item);
        return this.add({ 'meta-type': 'array', 'element-type': item }, `[${item}]`);
      }
      case 'object':
        return this.object(kind.entries, false);
      case 'union':
        return this.add({
          'meta-type': 'alternate',
          members: kind.options.map((option) => ({ type: this.type(option) })),
        });
      case 'any':
      case 'bool':
      case 'int':
      case 'null':
      case 'str':
        this.used.add(kind.kind);
        return kind.kind;
    }
  }

  private add(content: Entry, fixedName?: string): string {
    const key = JSON.stringify(content);
    const known = this.byContent.get(key);
    if (known !== undefined) return known;
    const name = fixedName ?? String(this.byContent.size);
    this.byContent.set(key, name);
    this.entries.push({ name, ...content });
    return name;
  }
}
