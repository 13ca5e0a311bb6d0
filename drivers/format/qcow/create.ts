import type { CreateContext, NewImageContext } from '../../../src/block/driver.ts';
import { BlockError } from '../../../src/block/errors.ts';
import { optional, text } from '../../../src/block/schema.ts';
import { CIPHER_SECTOR } from '../../../src/crypto/sector-cipher.ts';
import { alignUp } from '../../../src/util/sizes.ts';
import { CryptMethod, ENCRYPT_OPTIONS } from './encryption.ts';
import { encodeHeader, HEADER_LENGTH, l1EntriesFor, MAGIC } from './header.ts';

const L1_MAX_BYTES = 64 * 1024 * 1024;

export const CREATE_OPTIONS = {
  backing_file: optional(text('Name of the backing file, as the image is to hold it')),
  backing_fmt: optional(text('Format of the backing file; the image has no place for it')),
  ...ENCRYPT_OPTIONS,
};

/** Writes header, backing file name and an empty L1 table. Clusters are 4 KiB, 512 bytes over a backing file, as QEMU has it. */
export async function createQcow(context: CreateContext<Readonly<Record<string, unknown>>>): Promise<void> {
  const { file } = context;
  const { head, length } = await planOf(context);
  await file.resize(length);
  await file.write(head, 0);
  await file.flush();
}

/** Contract: Driver.checkCreate. */
export async function checkNewQcow(context: NewImageContext): Promise<void> {
  await planOf(context);
}

interface Plan {
  /** Header and name of the backing file. */
  readonly head: Buffer;
  /** Bytes of the new file. */
  readonly length: number;
}

async function planOf(context: NewImageContext): Promise<Plan> {
  const { size, subject, options } = context;
  const given = options['backing_file'];
  const encrypt = options['encrypt.format'];
  const name = typeof given === 'string' ? Buffer.from(given) : Buffer.alloc(0);
  if (name.length > 1023) {
    throw new BlockError(
      'EINVAL',
      `Cannot create "${subject}": backing_file has ${name.length} bytes, must be at most 1023`,
    );
  }
  const clusterBits = name.length > 0 ? 9 : 12;
  const l2Bits = name.length > 0 ? 12 : 9;
  const l1Bytes = l1EntriesFor(size, clusterBits, l2Bits) * 8;
  if (size === 0 || l1Bytes > L1_MAX_BYTES) {
    const most = (L1_MAX_BYTES / 8) * 2 ** (clusterBits + l2Bits);
    throw new BlockError('EFBIG', `Cannot create "${subject}": size is ${size}, must be 1 to ${most} bytes`);
  }
  if (encrypt !== undefined) await requireKey(context);
  const header = encodeHeader({
    magic: MAGIC,
    version: 1,
    backing_file_offset: name.length > 0 ? HEADER_LENGTH : 0,
    backing_file_size: name.length,
    mtime: 0,
    size,
    cluster_bits: clusterBits,
    l2_bits: l2Bits,
    crypt_method: encrypt === undefined ? CryptMethod.none : CryptMethod.aes,
    l1_table_offset: alignUp(HEADER_LENGTH + name.length, 8),
  });
  const head = Buffer.concat([header, name]);
  return { head, length: alignUp(alignUp(head.length, 8) + l1Bytes, 512) };
}

/** The image holds nothing of its key; but who can't tell it could not use the image either. */
async function requireKey(context: NewImageContext): Promise<void> {
  const { options, size, subject } = context;
  const id = options['encrypt.key-secret'];
  await context.secret?.(typeof id === 'string' ? id : undefined);
  if (size % CIPHER_SECTOR === 0) return;
  const wanted = `must be a multiple of ${CIPHER_SECTOR} in an encrypted image`;
  throw new BlockError('EINVAL', `Cannot create "${subject}": size is ${size}, ${wanted}`);
}
