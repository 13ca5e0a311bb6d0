import manifest from '../../package.json' with { type: 'json' };

export const VERSION = manifest.version;

/** Major, minor, micro. */
export function versionNumbers(): [number, number, number] {
  const [major = 0, minor = 0, micro = 0] = VERSION.split('.').map(Number);
  return [major, minor, micro];
}
