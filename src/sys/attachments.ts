/** What `attach` has set up: one `attach-*.attached` file each, beside the folder of that name that its mount is on. */
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename } from 'node:path';
import { loopFile } from './loop-device.ts';
import { serversFolder } from './running-servers.ts';

export interface Attachment {
  readonly device: string;
  /** The file that the device shows: the disk or one of its partitions. */
  readonly file: string;
  readonly image: string;
  /** Where the disk is mounted for the device's sake. */
  readonly mountpoint: string;
  /** Where the file system on the device is mounted; undefined when it is not. */
  readonly folder?: string | undefined;
}

const ENDING = '.attached';

/** A new folder that only its owner may enter, for a mount nobody is to look at. */
export function makePrivateFolder(): string {
  return mkdtempSync(`${serversFolder()}/attach-`);
}

/** Only when it is empty: what is mounted there is not touched. */
export function removePrivateFolder(folder: string): void {
  if (existsSync(folder)) rmdirSync(folder);
}

export function enterAttachment(attachment: Attachment): void {
  writeFileSync(pathOf(attachment), JSON.stringify(attachment), { mode: 0o600 });
}

export function removeAttachment(attachment: Attachment): void {
  rmSync(pathOf(attachment), { force: true });
}

/** Attachments of which something is left: the device shows the file, or (somebody had used it too long) the file is there. */
export function attachments(): Attachment[] {
  const folder = serversFolder();
  return readdirSync(folder)
    .filter((name) => name.endsWith(ENDING))
    .map((name) => JSON.parse(readFileSync(`${folder}/${name}`, 'utf8')) as Attachment)
    .filter((attachment) => hasDevice(attachment) || existsSync(attachment.file));
}

/** Whether the device is not free again, or another's. */
export const hasDevice = ({ device, file }: Attachment): boolean => loopFile(device) === file;

const pathOf = ({ mountpoint }: Attachment): string => `${serversFolder()}/${basename(mountpoint)}${ENDING}`;
