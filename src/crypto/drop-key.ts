import type { Cipheriv, Decipheriv } from 'node:crypto';

/**
 * The library overwrites the key when a cipher ends. It would do so when the object is collected as well: hours later, or
 * never. Only whole blocks went through, without padding: there is nothing left to come out.
 */
export function dropKey(cipher: Cipheriv | Decipheriv): void {
  cipher.final();
}
