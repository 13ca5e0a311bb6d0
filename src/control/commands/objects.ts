import * as v from 'valibot';
import { isIdentifier } from '../../block/objects.ts';
import { expandDotted } from '../../block/options.ts';
import type { GraphObject } from '../../block/objects.ts';
import { text } from '../../block/schema.ts';
import { CommandError, defineControlCommand } from '../command.ts';
import type { ControlCommand } from '../command.ts';
import type { ControlHost } from '../host.ts';
import { refuseOtherTypes } from '../wrong-argument.ts';

const CONTAINER = '/objects';
const PATH = text('/objects/<id>, or the id alone');
const PROPERTY = text('Name of the property');

/** Throttle groups, secrets and the like. */
export function objectCommands(host: ControlHost): readonly ControlCommand[] {
  return [add(host), remove(host), listing(host), get(host), set(host)];
}

function add(host: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'object-add',
    summary: 'Makes an object',
    arguments: { 'qom-type': text('Type of the object'), id: text('Its id') },
    open: true,
    run: async ({ 'qom-type': type, id, ...options }) => {
      if (!isIdentifier(id)) throw new CommandError('GenericError', "Parameter 'id' expects an identifier");
      if (host.graph.objects.has(id)) {
        const why = `attempt to add duplicate property '${id}' to object (type 'container')`;
        throw new CommandError('GenericError', why);
      }
      const known = host.graph.objectTypes.find(({ name }) => name === type);
      if (known === undefined)
        throw new CommandError('GenericError', `Parameter 'qom-type' does not accept value '${type}'`);
      const tree = expandDotted(options);
      refuseOtherTypes(known.options, tree);
      host.addObject(type, id, tree);
    },
  });
}

function remove(host: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'object-del',
    summary: 'Removes an object that nobody uses',
    arguments: { id: text('Its id') },
    run: async ({ id }) => {
      if (!host.graph.objects.has(id)) throw new CommandError('GenericError', `object '${id}' not found`);
      host.removeObject(id);
    },
  });
}

function listing({ graph }: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'qom-list',
    summary: 'Lists the objects, or the properties of one',
    arguments: { path: PATH },
    run: async ({ path }) => {
      const type = { name: 'type', type: 'string' };
      if (path === '/') return [type, { name: 'objects', type: 'child<container>' }];
      if (path === CONTAINER) {
        const objects = [...graph.objects.values()];
        return [type, ...objects.map((object) => ({ name: object.id, type: `child<${object.type}>` }))];
      }
      const properties = Object.entries(findObject(graph.objects, path).properties());
      return [type, ...properties.map(([name, value]) => ({ name, type: typeName(name, value) }))];
    },
  });
}

function get({ graph }: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'qom-get',
    summary: 'Tells a property of an object',
    arguments: { path: PATH, property: PROPERTY },
    run: async ({ path, property }) => {
      const object = findObject(graph.objects, path);
      if (property === 'type') return object.type;
      const properties = object.properties();
      if (!Object.hasOwn(properties, property)) throw noProperty(object, property);
      return properties[property];
    },
  });
}

function set({ graph }: ControlHost): ControlCommand {
  return defineControlCommand({
    name: 'qom-set',
    summary: 'Changes a property of an object',
    arguments: { path: PATH, property: PROPERTY, value: v.unknown() },
    run: async ({ path, property, value }) => {
      const object = findObject(graph.objects, path);
      if (!Object.hasOwn(object.properties(), property)) throw noProperty(object, property);
      object.setProperty(property, value);
    },
  });
}

function findObject(objects: ReadonlyMap<string, GraphObject>, path: string): GraphObject {
  const object = objects.get(path.startsWith(`${CONTAINER}/`) ? path.slice(CONTAINER.length + 1) : path);
  if (object !== undefined) return object;
  throw new CommandError('DeviceNotFound', `Device '${path}' not found`);
}

function noProperty(object: GraphObject, name: string): CommandError {
  return new CommandError('GenericError', `Property '${object.type}.${name}' not found`);
}

function typeName(name: string, value: unknown): string {
  if (name === 'limits') return 'ThrottleLimits';
  return typeof value === 'number' ? 'int' : typeof value === 'boolean' ? 'bool' : 'string';
}
