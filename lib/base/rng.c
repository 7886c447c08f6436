/* ChaCha20, long runs from chacha.c and the rest from libsodium, addressed by (purpose, step,
 * tensor, coordinate). See psg/rng.h. */
#include "psg/rng.h"

#include <endian.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#include "base/chacha.h"

enum { BLOCK_BYTES = 64 };

/* libsodium picks its vector code when it is initialised; without that the numbers are the
 * same but come slowly, so a failure here needs no answer. */
static void rng_choose_code(void)
{
    if (sodium_init() < 0)
        return;
}

static void rng_init_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, rng_choose_code);
}

int psg_key_random(struct psg_key *key, struct psg_error *err)
{
    if (sodium_init() < 0)
        return psg_fail(err, PSG_E_IO, "key",
                        "the system's random generator is not available");
    randombytes_buf(key->bytes, sizeof key->bytes);
    return 0;
}

void psg_key_from_seed(uint64_t seed, struct psg_key *key)
{
    static const char context[] = "psg key from seed, version 1";
    uint64_t le = htole64(seed);
    rng_init_once();
    (void)crypto_generichash(key->bytes, sizeof key->bytes, (const unsigned char *)&le,
                             sizeof le, (const unsigned char *)context, sizeof context - 1);
}

void psg_key_wipe(struct psg_key *key)
{
    if (key)
        sodium_memzero(key->bytes, sizeof key->bytes);
}

static void nonce_write(uint8_t nonce[12], enum psg_rng_purpose purpose, uint64_t step,
                        uint32_t tensor)
{
    uint32_t p = (uint32_t)purpose;
    nonce[0] = (uint8_t)p;
    nonce[1] = (uint8_t)(p >> 8);
    for (int i = 0; i < 4; i++)
        nonce[2 + i] = (uint8_t)(tensor >> (8 * i));
    for (int i = 0; i < 6; i++)
        nonce[6 + i] = (uint8_t)(step >> (8 * i));
}

/* Bytes [offset, offset + n) of one stream into out. offset and n are in range. */
static void stream_read(const struct psg_key *key, const uint8_t nonce[12], int64_t offset,
                        int64_t n, uint8_t *out)
{
    uint32_t block = (uint32_t)(offset / BLOCK_BYTES);
    int64_t skip = offset % BLOCK_BYTES;
    if (skip) {
        uint8_t head[BLOCK_BYTES] = { 0 };
        int64_t take = BLOCK_BYTES - skip < n ? BLOCK_BYTES - skip : n;
        crypto_stream_chacha20_ietf_xor_ic(head, head, sizeof head, nonce, block,
                                           key->bytes);
        memcpy(out, head + skip, (size_t)take);
        out += take;
        n -= take;
        block++;
    }
    int64_t done = chacha_blocks(key->bytes, nonce, block, n / BLOCK_BYTES, out);
    out += done * BLOCK_BYTES;
    n -= done * BLOCK_BYTES;
    block += (uint32_t)done;
    if (n == 0)
        return;
    memset(out, 0, (size_t)n);
    crypto_stream_chacha20_ietf_xor_ic(out, out, (unsigned long long)n, nonce, block,
                                       key->bytes);
}

static bool range_is_valid(int64_t first, int64_t n, int64_t width)
{
    int64_t limit = PSG_RNG_MAX_BYTES / width;
    return first >= 0 && n >= 0 && first <= limit && n <= limit - first;
}

static int range_fail(struct psg_error *err)
{
    return psg_fail(err, PSG_E_RANGE, "rng",
                    "step or coordinate outside of the random stream");
}

/* In pieces that stay in the first-level cache, since the keystream is XORed onto zeros. */
static int stream_fill(const struct psg_key *key, enum psg_rng_purpose purpose,
                       uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                       int64_t width, void *out, struct psg_error *err)
{
    if (step > PSG_RNG_MAX_STEP || !range_is_valid(first, n, width))
        return range_fail(err);
    rng_init_once();
    uint8_t nonce[12];
    nonce_write(nonce, purpose, step, tensor);
    enum { PIECE = 8192 };
    int64_t begin = first * width, bytes = n * width;
    for (int64_t done = 0; done < bytes;) {
        int64_t piece = bytes - done < PIECE ? bytes - done : PIECE;
        stream_read(key, nonce, begin + done, piece, (uint8_t *)out + done);
        done += piece;
    }
    return 0;
}

int psg_rng_fill_u32(const struct psg_key *key, enum psg_rng_purpose purpose, uint64_t step,
                     uint32_t tensor, int64_t first, int64_t n, uint32_t *out,
                     struct psg_error *err)
{
    int r = stream_fill(key, purpose, step, tensor, first, n, sizeof *out, out, err);
    if (r)
        return r;
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    for (int64_t i = 0; i < n; i++)
        out[i] = le32toh(out[i]);
#endif
    return 0;
}

int psg_rng_fill_u64(const struct psg_key *key, enum psg_rng_purpose purpose, uint64_t step,
                     uint32_t tensor, int64_t first, int64_t n, uint64_t *out,
                     struct psg_error *err)
{
    int r = stream_fill(key, purpose, step, tensor, first, n, sizeof *out, out, err);
    if (r)
        return r;
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    for (int64_t i = 0; i < n; i++)
        out[i] = le64toh(out[i]);
#endif
    return 0;
}

int psg_rng_fill_uniform(const struct psg_key *key, enum psg_rng_purpose purpose,
                         uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                         double *out, struct psg_error *err)
{
    enum { PIECE = 512 };
    uint64_t bits[PIECE];
    if (!range_is_valid(first, n, sizeof bits[0]))
        return range_fail(err);
    for (int64_t done = 0; done < n;) {
        int64_t piece = n - done < PIECE ? n - done : PIECE;
        int r =
            psg_rng_fill_u64(key, purpose, step, tensor, first + done, piece, bits, err);
        if (r)
            return r;
        for (int64_t i = 0; i < piece; i++)
            out[done + i] = ((double)(bits[i] >> 12) + 0.5) * 0x1p-52;
        done += piece;
    }
    return 0;
}

int psg_rng_fill_real(const struct psg_key *key, enum psg_rng_purpose purpose,
                      uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                      psg_real *out, struct psg_error *err)
{
    enum { PIECE = 1024 };
    uint32_t bits[PIECE];
    if (!range_is_valid(first, n, sizeof bits[0]))
        return range_fail(err);
    for (int64_t done = 0; done < n;) {
        int64_t piece = n - done < PIECE ? n - done : PIECE;
        int r =
            psg_rng_fill_u32(key, purpose, step, tensor, first + done, piece, bits, err);
        if (r)
            return r;
        for (int64_t i = 0; i < piece; i++)
            out[done + i] =
                ((psg_real)(int32_t)(bits[i] >> 9) + (psg_real)0.5) * (psg_real)0x1p-23;
        done += piece;
    }
    return 0;
}
