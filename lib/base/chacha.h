/* ChaCha20 many blocks at a time, for processors whose vectors make that faster than libsodium. */
#ifndef BASE_CHACHA_H
#define BASE_CHACHA_H

#include <stdint.h>

/* Key stream of `n_blocks` blocks of 64 bytes from block counter `block` on, as RFC 8439 has it.
 * Writes whole groups of blocks only; returns how many blocks that were, perhaps none: the rest is
 * the caller's. block + n_blocks <= 2^32. */
int64_t chacha_blocks(const uint8_t key[32], const uint8_t nonce[12], uint32_t block,
                      int64_t n_blocks, uint8_t *out);

#endif
