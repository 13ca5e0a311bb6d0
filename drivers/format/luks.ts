import type {
  CreateContext,
  DataCodec,
  ImageInfo,
  MappingDriver,
  OpenContext,
} from '../../src/block/driver.ts';
import { defineDriver } from '../../src/block/driver.ts';
import { BlockError } from '../../src/block/errors.ts';
import type { Extent } from '../../src/block/extent.ts';
import type { Child } from '../../src/block/child.ts';
import { limits } from '../../src/block/limits.ts';
import { Role } from '../../src/block/permissions.ts';
import type { OptionsOf } from '../../src/block/schema.ts';
import { optional, text } from '../../src/block/schema.ts';
import { decodeLuksHeader, isLuks, LUKS_HEADER_BYTES, LUKS_SECTOR } from '../../src/crypto/luks-header.ts';
import type { LuksHeader } from '../../src/crypto/luks-header.ts';
import { LUKS_CREATE_OPTIONS, newLuksVolume } from '../../src/crypto/luks-create.ts';
import { luksInfo } from '../../src/crypto/luks-info.ts';
import { openLuksCipher } from '../../src/crypto/luks-open.ts';
import { CIPHER_SECTOR } from '../../src/crypto/sector-cipher.ts';
import type { SectorCipher } from '../../src/crypto/sector-cipher.ts';
import { alignUp } from '../../src/util/sizes.ts';

const OPTIONS = {
  'key-secret': optional(text('Id of the secret that holds the passphrase; the key given when left out')),
};

/** A LUKS1 volume: the payload behind the header, sector by sector, counted from the start of the payload. */
class LuksVolume implements MappingDriver {
  readonly family = 'mapping';
  readonly recurseStatus = false;
  readonly limits = limits({ requestAlignment: CIPHER_SECTOR, zeroesAlignment: CIPHER_SECTOR });
  readonly codec: DataCodec;
  private readonly file: Child;
  private readonly header: LuksHeader;
  private readonly cipher: SectorCipher;
  private readonly start: number;

  constructor(file: Child, header: LuksHeader, cipher: SectorCipher) {
    this.file = file;
    this.header = header;
    this.cipher = cipher;
    this.start = header.payloadOffset * LUKS_SECTOR;
    this.codec = {
      unit: CIPHER_SECTOR,
      decode: (bytes, at, length, offset) => {
        cipher.decrypt(bytes, at, length, offset / CIPHER_SECTOR);
      },
      encode: (bytes, at, length, offset) => {
        cipher.encrypt(bytes, at, length, offset / CIPHER_SECTOR);
      },
    };
  }

  get size(): number {
    const bytes = Math.max(0, this.file.size - this.start);
    return bytes - (bytes % CIPHER_SECTOR);
  }

  tryMap(offset: number, max: number, out: Extent): boolean {
    return out.setData(this.file, this.start + offset, Math.min(max, this.size - offset), true);
  }

  /** tryMap never fails. */
  load(): Promise<void> {
    return Promise.resolve();
  }

  /** A hole of the file would be decrypted to noise. */
  tryDiscard(_offset: number, length: number): number {
    return length;
  }

  flush(): Promise<void> {
    return this.file.flush();
  }

  async resize(bytes: number, shrink: boolean): Promise<void> {
    await this.file.resize(this.start + bytes, shrink);
  }

  close(): Promise<void> {
    this.cipher.wipe();
    return Promise.resolve();
  }

  info(): Promise<ImageInfo> {
    return Promise.resolve({ encrypted: true, formatSpecific: luksInfo(this.header) });
  }
}

async function open(context: OpenContext<OptionsOf<typeof OPTIONS>>): Promise<MappingDriver> {
  const file = context.child('file');
  const { subject } = context;
  const head = Buffer.alloc(LUKS_HEADER_BYTES);
  await file.read(head, 0);
  const header = decodeLuksHeader(head, subject, file.size);
  const start = header.payloadOffset * LUKS_SECTOR;
  if (start > file.size) {
    throw new BlockError(
      'EINVAL',
      `Cannot open LUKS image "${subject}": the payload starts at ${start}, past its end`,
    );
  }
  const passphrase = await context.secret(context.options['key-secret']);
  const read = (bytes: Buffer, offset: number): Promise<void> => file.read(bytes, offset);
  return new LuksVolume(file, header, await openLuksCipher(header, passphrase, read, subject));
}

async function create(context: CreateContext<Readonly<Record<string, unknown>>>): Promise<void> {
  const { file, options, size, subject } = context;
  const id = options['key-secret'];
  const passphrase = await context.secret?.(typeof id === 'string' ? id : undefined);
  const { bytes } = await newLuksVolume((name) => String(options[name]), passphrase, subject);
  await file.write(bytes, 0);
  await file.resize(bytes.length + alignUp(size, CIPHER_SECTOR));
  await file.flush();
}

export const luksDriver = defineDriver({
  name: 'luks',
  kind: 'format',
  summary: 'LUKS1 encrypted volume',
  options: OPTIONS,
  children: {
    file: { roles: Role.data | Role.metadata | Role.primary, required: true, summary: 'The encrypted file' },
  },
  probe: (head) => (isLuks(head) ? 100 : 0),
  open,
  createOptions: LUKS_CREATE_OPTIONS,
  create,
});
