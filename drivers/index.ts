import type { Driver } from '../src/block/driver.ts';
import { blkdebugDriver } from './filter/blkdebug/driver.ts';
import { blkverifyDriver } from './filter/blkverify.ts';
import { compressDriver } from './filter/compress.ts';
import { copyBeforeWriteDriver } from './filter/copy-before-write/driver.ts';
import { copyOnReadDriver } from './filter/copy-on-read.ts';
import { delayDriver } from './filter/delay.ts';
import { errorDriver } from './filter/error.ts';
import { logDriver } from './filter/log.ts';
import { preallocateDriver } from './filter/preallocate.ts';
import { quorumDriver } from './filter/quorum/driver.ts';
import { snapshotAccessDriver } from './filter/snapshot-access.ts';
import { throttleDriver } from './filter/throttle.ts';
import { luksDriver } from './format/luks.ts';
import { qcowDriver } from './format/qcow/driver.ts';
import { qcow2Driver } from './format/qcow2/driver.ts';
import { qedDriver } from './format/qed/driver.ts';
import { parallelsDriver } from './format/parallels/driver.ts';
import { bochsDriver } from './format/bochs/driver.ts';
import { cloopDriver } from './format/cloop.ts';
import { splitDriver } from './format/split.ts';
import { dmgDriver } from './format/dmg/driver.ts';
import { parallelsFolderDriver } from './format/parallels/folder-driver.ts';
import { gzipDriver } from './format/compressed/gzip-driver.ts';
import { xzDriver } from './format/compressed/xz-driver.ts';
import { zstdDriver } from './format/compressed/zstd-driver.ts';
import { rawDriver } from './format/raw.ts';
import { vdiDriver } from './format/vdi/driver.ts';
import { vmdkDriver } from './format/vmdk/driver.ts';
import { vhdxDriver } from './format/vhdx/driver.ts';
import { vpcDriver } from './format/vpc/driver.ts';
import { fileDriver } from './protocol/file.ts';
import { hostDeviceDriver } from './protocol/host-device.ts';
import { httpDriver, httpsDriver } from './protocol/http/driver.ts';
import { memDriver } from './protocol/mem.ts';
import { nbdDriver } from './protocol/nbd/driver.ts';
import { nullAioDriver, nullCoDriver } from './protocol/null.ts';
import { vvfatDriver } from './protocol/vvfat/driver.ts';

/** Every driver of the program. A new driver is a new line here (test/rules compares the list with the folders). */
export const DRIVERS: readonly Driver[] = [
  zstdDriver,
  xzDriver,
  gzipDriver,
  parallelsFolderDriver,
  dmgDriver,
  splitDriver,
  cloopDriver,
  bochsDriver,
  parallelsDriver,
  rawDriver,
  qcow2Driver,
  qcowDriver,
  qedDriver,
  vdiDriver,
  vmdkDriver,
  vpcDriver,
  vhdxDriver,
  luksDriver,
  fileDriver,
  hostDeviceDriver,
  httpDriver,
  httpsDriver,
  memDriver,
  nbdDriver,
  nullCoDriver,
  nullAioDriver,
  blkdebugDriver,
  blkverifyDriver,
  compressDriver,
  copyBeforeWriteDriver,
  copyOnReadDriver,
  delayDriver,
  errorDriver,
  logDriver,
  preallocateDriver,
  quorumDriver,
  snapshotAccessDriver,
  throttleDriver,
  vvfatDriver,
];
