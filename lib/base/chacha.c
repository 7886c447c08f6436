/* One block a lane: x[i] holds word i of LANES consecutive blocks. The words are turned into the
 * order of the stream at the end, by rounds of interleaving. See base/chacha.h. */
#include "base/chacha.h"

#include <string.h>

#if defined(__x86_64__)

enum { LANES = 16, BLOCK_BYTES = 64 };

typedef uint32_t lanes __attribute__((vector_size(LANES * 4)));
typedef uint32_t lanes_any __attribute__((vector_size(LANES * 4), aligned(1), may_alias));

#define ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define QUARTER(a, b, c, d)                                                                \
    a += b, d = ROTATE(d ^ a, 16), c += d, b = ROTATE(b ^ c, 12), a += b,                  \
        d = ROTATE(d ^ a, 8), c += d, b = ROTATE(b ^ c, 7)
#define ZIP_LOW(a, b)                                                                      \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b)                                                                     \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

#if defined(__clang__)
#define WIDE_CODE __attribute__((target("avx512f")))
#else
#define WIDE_CODE __attribute__((target("avx512f,prefer-vector-width=512"), optimize("O3")))
#endif

/* state[12] is the counter of lane 0 */
WIDE_CODE static void group(const uint32_t state[16], uint8_t *out)
{
    lanes x[16], y[16], number = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    for (int i = 0; i < 16; i++)
        x[i] = (lanes){ 0 } + state[i];
    x[12] += number;
    for (int round = 0; round < 10; round++) {
        QUARTER(x[0], x[4], x[8], x[12]);
        QUARTER(x[1], x[5], x[9], x[13]);
        QUARTER(x[2], x[6], x[10], x[14]);
        QUARTER(x[3], x[7], x[11], x[15]);
        QUARTER(x[0], x[5], x[10], x[15]);
        QUARTER(x[1], x[6], x[11], x[12]);
        QUARTER(x[2], x[7], x[8], x[13]);
        QUARTER(x[3], x[4], x[9], x[14]);
    }
    for (int i = 0; i < 16; i++)
        x[i] += state[i];
    x[12] += number;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 8; i++) {
            y[2 * i] = ZIP_LOW(x[i], x[i + 8]);
            y[2 * i + 1] = ZIP_HIGH(x[i], x[i + 8]);
        }
        for (int i = 0; i < 8; i++) {
            x[2 * i] = ZIP_LOW(y[i], y[i + 8]);
            x[2 * i + 1] = ZIP_HIGH(y[i], y[i + 8]);
        }
    }
    for (int i = 0; i < 16; i++)
        *(lanes_any *)(out + i * BLOCK_BYTES) = (lanes_any)x[i];
}

static uint32_t word(const void *from)
{
    uint32_t w;
    memcpy(&w, from, sizeof w);
    return w;
}

int64_t chacha_blocks(const uint8_t key[32], const uint8_t nonce[12], uint32_t block,
                      int64_t n_blocks, uint8_t *out)
{
    uint32_t state[16] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 };
    int64_t done = 0;
    if (n_blocks < LANES || !__builtin_cpu_supports("avx512f"))
        return 0;
    for (int i = 0; i < 8; i++)
        state[4 + i] = word(key + 4 * i);
    for (int i = 0; i < 3; i++)
        state[13 + i] = word(nonce + 4 * i);
    for (; done + LANES <= n_blocks; done += LANES) {
        state[12] = block + (uint32_t)done;
        group(state, out + done * BLOCK_BYTES);
    }
    explicit_bzero(state, sizeof state);
    return done;
}

#else

int64_t chacha_blocks(const uint8_t key[32], const uint8_t nonce[12], uint32_t block,
                      int64_t n_blocks, uint8_t *out)
{
    (void)key;
    (void)nonce;
    (void)block;
    (void)n_blocks;
    (void)out;
    return 0;
}

#endif
