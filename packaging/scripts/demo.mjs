/** `npm run mount` without an image: makes a small qcow2 image, mounts it, and says what to try. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { demoImage } from './demo-image.mjs';
import { root } from './project.mjs';

const folder = `${process.cwd()}/demo`;
const image = `${folder}/demo.qcow2`;
const mountpoint = `${folder}/mnt`;
const disk = `${mountpoint}/demo.raw`;

const TEXT = `Hello from inside a qcow2 image.
This text lies at the start of a disk of 1 GiB, of which the image stores 64 KiB.
What you write into this file goes into the image.
`;

mkdirSync(mountpoint, { recursive: true });
if (!existsSync(image)) writeFileSync(image, demoImage(2 ** 30, TEXT));
process.exitCode = existsSync(disk) ? 0 : mount();
if (process.exitCode === 0) {
  console.log(`Mounted ${image} (${Math.round(statSync(image).size / 1024)} KiB).
Its disk (1 GiB) is the file ${disk}

Read it:      head -n 3 ${disk}
Write it:     echo changed | dd of=${disk} conv=notrunc
See mounts:   npm run blockfuse -- list
End it:       npm run unmount -- ${mountpoint}

Your own:     npm run mount -- IMAGE DIRECTORY`);
}

function mount() {
  const argv = [`${root}/dist/blockfuse.js`, 'mount', image, mountpoint];
  return spawnSync(process.execPath, argv, { stdio: ['ignore', 'ignore', 'inherit'] }).status ?? 1;
}
