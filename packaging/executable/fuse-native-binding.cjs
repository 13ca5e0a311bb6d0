/** Stands in for the loader of fuse-native's binary, which is called as a CommonJS module. */
const { loadEmbedded } = require('./embedded-library.ts');

module.exports = () => {
  const module = { exports: {} };
  loadEmbedded('fuse-native.node', (path) => {
    process.dlopen(module, path);
  });
  return module.exports;
};
