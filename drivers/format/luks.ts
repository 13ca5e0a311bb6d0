import type { AmendRequest } from '../../src/block/amend-request.ts';
import type {
  CreateContext,
  DataCodec,
  ImageInfo,
  MappingDriver,
  NewImageContext,
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
import {
  checkLuksOptions,
  LUKS_CREATE_OPTIONS,
  luksHeaderBytes,
  newLuksVolume,
} from '../../src/crypto/luks-create.ts';
import { LUKS_AMEND_OPTIONS, planSlots } from '../../src/crypto/luks-amend.ts';
import { luksInfo } from '../../src/crypto/luks-info.ts';
import { openLuksCipher } from '../../src/crypto/luks-open.ts';
import type { LuksStore } from '../../src/crypto/luks-slots.ts';
import { CIPHER_SECTOR } from '../../src/crypto/sector-cipher.ts';
import type { SectorCipher } from '../../src/crypto/sector-cipher.ts';
import { alignUp } from '../../src/util/sizes.ts';

const OPTIONS = {
  'key-secret': optional(text('Id of the secret that holds the passphrase; the key given when left out')),
};

/** Bytes of zeroes that a longer volume gets at a time. */
const PIECE = 1024 * 1024;

interface KeyOf {
  readonly subject: string;
  readonly passphrase: () => Promise<Buffer | undefined>;
}

/** A LUKS1 volume: the payload behind the header, sector by sector, counted from the start of the payload. */
class LuksVolume implements MappingDriver {
  readonly family = 'mapping';
  readonly recurseStatus = false;
  readonly limits = limits({
    requestAlignment: CIPHER_SECTOR,
    zeroesAlignment: CIPHER_SECTOR,
    sizeUnit: CIPHER_SECTOR,
  });
  readonly codec: DataCodec;
  private readonly file: Child;
  private readonly header: LuksHeader;
  private readonly cipher: SectorCipher;
  private readonly start: number;
  private readonly subject: string;
  private readonly passphrase: () => Promise<Buffer | undefined>;

  constructor(file: Child, header: LuksHeader, cipher: SectorCipher, key: KeyOf) {
    this.subject = key.subject;
    this.passphrase = key.passphrase;
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
    const end = this.start + bytes;
    if (end <= this.file.size) return this.file.resize(end, shrink);
    const before = this.file.size;
    try {
      await this.appendZeroes(bytes);
    } catch (error) {
      // Where this fails, too, the volume is longer by some zeroes.
      await this.file.resize(before, true).catch(() => undefined);
      throw error;
    }
  }

  /** Written as what decrypts to zeroes: a longer file would show noise. */
  private async appendZeroes(end: number): Promise<void> {
    const piece = Buffer.alloc(Math.min(PIECE, alignUp(end - this.size, CIPHER_SECTOR)));
    for (let at = this.size; at < end; at += piece.length) {
      const length = Math.min(piece.length, end - at);
      piece.fill(0);
      this.cipher.encrypt(piece, 0, alignUp(length, CIPHER_SECTOR), at / CIPHER_SECTOR);
      await this.file.write(piece.subarray(0, length), this.start + at);
    }
  }

  /** Contract: MappingDriver.amend. */
  async amend(request: AmendRequest): Promise<void> {
    const { subject, header, file, passphrase, start: length } = this;
    const store: LuksStore = {
      subject,
      header,
      length,
      read: (bytes, offset) => file.read(bytes, offset),
      write: (bytes, offset) => file.write(bytes, offset),
      flush: () => file.flush(),
    };
    refuseOptions(request, subject);
    const change = await planSlots({ store, request, prefix: '', passphrase });
    await change();
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
  const passphrase = (): Promise<Buffer | undefined> => context.secret(context.options['key-secret']);
  const read = (bytes: Buffer, offset: number): Promise<void> => file.read(bytes, offset);
  const cipher = await openLuksCipher(header, await passphrase(), read, subject);
  return new LuksVolume(file, header, cipher, { subject, passphrase });
}

function refuseOptions({ options }: AmendRequest, subject: string): void {
  const known: readonly string[] = LUKS_AMEND_OPTIONS;
  const other = Object.keys(options).find((name) => !known.includes(name));
  if (other === undefined) return;
  const text = `"${other}" can't be changed once an image is made, only ${known.join(', ')}`;
  throw new BlockError('ENOTSUP', `Cannot amend image "${subject}": ${text}`);
}

function newKey({ options, secret }: NewImageContext): Promise<Buffer | undefined> {
  const id = options['key-secret'];
  return secret?.(typeof id === 'string' ? id : undefined) ?? Promise.resolve(undefined);
}

async function checkCreate(context: NewImageContext): Promise<void> {
  checkLuksOptions((name) => String(context.options[name]), await newKey(context), context.subject);
}

async function create(context: CreateContext<Readonly<Record<string, unknown>>>): Promise<void> {
  const { file, options, size, subject } = context;
  const passphrase = await newKey(context);
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
  checkCreate,
  measure: ({ options, size }) => {
    const bytes = luksHeaderBytes((name) => String(options[name])) + alignUp(size, CIPHER_SECTOR);
    return Promise.resolve({ required: bytes, fullyAllocated: bytes });
  },
  create,
});
