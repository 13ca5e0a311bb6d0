import { UnpackPool } from './unpack-pool.ts';

export const pool = new UnpackPool();
