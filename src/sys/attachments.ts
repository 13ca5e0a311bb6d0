/** What `attach` has set up: one `<device>.attached` file each in the folder of this user's servers. */
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
  writeFileSync(pathOf(attachment.device), JSON.stringify(attachment), { mode: 0o600 });
}

export function removeAttachment(device: string): void {
  rmSync(pathOf(device), { force: true });
}

/** Attachments whose device still shows their file. */
export function attachments(): Attachment[] {
  const folder = serversFolder();
  return readdirSync(folder)
    .filter((name) => name.endsWith(ENDING))
    .map((name) => JSON.parse(readFileSync(`${folder}/${name}`, 'utf8')) as Attachment)
    .filter(({ device, file }) => loopFile(device) === file);
}

const pathOf = (device: string): string => `${serversFolder()}/${basename(device)}${ENDING}`;
