import { root } from './project.mjs';

/** What the bundle for Node and the one inside the executable have in common. */
export const BUNDLE_OPTIONS = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  alias: { 'supports-color': `${root}/packaging/scripts/no-colors.mjs` },
  sourcesContent: false,
  logLevel: 'warning',
};
