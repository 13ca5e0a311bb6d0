import path from 'node:path';
import { BlockError } from './errors.ts';
import { Role } from './permissions.ts';
import type { ImageReference } from './driver.ts';

/** How far names found inside images are followed. */
export interface GatePolicy {
  /**
   * `rooted` (default): backing files anywhere, everything else (extents, data files, which may be written) only in
   * the directory of the image that names it, or below; no devices, no names of protocols. `anywhere`: as the image
   * says. `deny`: nothing.
   */
  readonly follow: 'rooted' | 'anywhere' | 'deny';
  /** Files opened because of one image, one below the other. */
  readonly maxDepth: number;
  /** The real path of a name, links followed; the name itself where it does not exist. */
  readonly realPath?: (name: string) => string;
}

export const DEFAULT_GATE: GatePolicy = { follow: 'rooted', maxDepth: 200 };

/** Nothing opens a file because an image said so, but through here. */
export class Gate {
  private readonly policy: GatePolicy;

  constructor(policy: Partial<GatePolicy> = {}) {
    this.policy = { ...DEFAULT_GATE, ...policy };
  }

  /**
   * The path to open for a name that the image `ancestors[0]` holds.
   * @param ancestors file names from the image that names it up to the top
   * @param protocol set where the name is none of a file: `nbd` for "nbd://host/export"
   */
  admit(
    reference: ImageReference,
    ancestors: readonly string[],
    override = 'backing.file.filename',
    protocol?: string,
  ): string {
    const image = ancestors[0] ?? '';
    const refuse = (why: string): never => {
      throw new BlockError('EPERM', `Cannot open "${reference.filename}" named by image "${image}": ${why}`, {
        path: reference.filename,
      });
    };
    const { follow, maxDepth } = this.policy;
    if (follow === 'deny')
      refuse(`names inside images are not followed; give it with the option ${override}`);
    if (ancestors.length > maxDepth)
      refuse(`${ancestors.length} files deep, at most ${maxDepth} are followed`);
    if (reference.filename === '' || reference.filename.includes('\0'))
      refuse('the name is empty or holds a NUL');
    const elsewhere = `allow it with --follow anywhere, or give the option ${override}`;
    if (protocol !== undefined) {
      if (follow !== 'anywhere')
        refuse(`it is a name of protocol ${protocol}, must be one of a file; ${elsewhere}`);
      return reference.filename;
    }
    const target = path.resolve(path.dirname(path.resolve(image)), reference.filename);
    const real = this.real(target);
    if (ancestors.some((name) => this.real(path.resolve(name)) === real))
      refuse('the chain of images is a loop');
    const anywhere = follow === 'anywhere' || (reference.roles & Role.cow) !== 0;
    const device = !anywhere || follow !== 'anywhere' ? /^\/(dev|proc|sys)(\/|$)/.test(real) : false;
    if (device && !real.startsWith('/dev/shm/')) refuse(`it is a device or system file; ${elsewhere}`);
    const root = this.real(path.dirname(path.resolve(image)));
    if (!anywhere && real !== root && !real.startsWith(root.endsWith('/') ? root : `${root}/`)) {
      refuse(`it lies outside "${root}"; ${elsewhere}`);
    }
    return target;
  }

  /** The real path of a file. */
  real(name: string): string {
    return this.policy.realPath?.(name) ?? name;
  }
}
