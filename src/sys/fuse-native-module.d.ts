/** The part of the package that is used. */
declare module 'fuse-native' {
  type Callback = (error: number, ...results: unknown[]) => void;

  export default class Fuse {
    /** `operations`: by name, each called with its arguments and a Callback. */
    constructor(mountpoint: string, operations: object, options: { readonly timeout: false });
    /** Called when the kernel has greeted, or with what is wrong. */
    mount(done: (error: Error | null) => void): void;
    unmount(done: (error: Error | null) => void): void;
    /** How `unmount` of the instance does it. */
    static unmount(mountpoint: string, done: (error: Error | null) => void): void;
  }
}
