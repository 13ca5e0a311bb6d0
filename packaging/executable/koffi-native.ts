/** Stands in for the file of koffi that looks for its binary in node_modules. */
import { loadEmbedded } from './embedded-library.ts';

export function loadStatic(): unknown {
  const module = { exports: {} };
  loadEmbedded('koffi.node', (path) => {
    process.dlopen(module, path);
  });
  return module.exports;
}
