/* Counter-based cryptographic random numbers: ChaCha20 (RFC 8439) keyed by a 256-bit secret.
 *
 * Every number has an address (purpose, step, tensor, coordinate) and depends on nothing but the
 * key and that address. So streams are independent, any sub-range can be drawn by any thread in
 * any order with the same result, and a step that is run again draws the same numbers.
 *
 * Layout, for other devices that must draw the same numbers: the 96-bit nonce is
 *     byte 0-1 purpose, 2-5 tensor, 6-11 step       (little-endian)
 * and the stream of bytes of that nonce starts at block counter 0. The u32 with coordinate i is
 * bytes 4i..4i+3 of the stream, the u64 with coordinate i is bytes 8i..8i+7, both little-endian.
 * The address is written into the nonce as it is, so two addresses never share a stream.
 * A stream holds 2^38 bytes: coordinates below 2^36 for u32 and 2^35 for u64. */
#ifndef PSG_RNG_H
#define PSG_RNG_H

#include <stdint.h>

#include "psg/shape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A secret from the kernel, one per job. Lives in locked or short-lived memory of its owner. */
struct psg_key {
    uint8_t bytes[32];
};

/* What the numbers are for. Values are part of the layout and never change their meaning. */
enum psg_rng_purpose {
    PSG_RNG_SAMPLING = 1,      /* which records join a batch */
    PSG_RNG_NOISE = 2,         /* Gaussian noise of the gradient */
    PSG_RNG_NOISE_TAIL = 3,    /* more bits for rare large values of PSG_RNG_NOISE */
    PSG_RNG_TELEMETRY = 4,     /* noise on losses and clip counts */
    PSG_RNG_TELEMETRY_TAIL = 5,
    PSG_RNG_DROPOUT = 6,
    PSG_RNG_INIT = 7,          /* first values of parameters */
    PSG_RNG_SHUFFLE = 8,       /* permutation of an epoch */
    PSG_RNG_ADAPTIVE_CLIP = 9, /* noise on the count behind an adaptive clip bound */
    PSG_RNG_ADAPTIVE_CLIP_TAIL = 10,
    PSG_RNG_SECURE_NOISE = 11, /* keys of the discrete Gaussian */
    PSG_RNG_AUDIT = 12,        /* canaries of an audit */
    PSG_RNG_USER = 13          /* programs that link the library: their own numbers */
};

#define PSG_RNG_MAX_STEP  ((UINT64_C(1) << 48) - 1)
#define PSG_RNG_MAX_BYTES (INT64_C(1) << 38)

/* A fresh key from the kernel's generator. PSG_E_IO if there is none. */
PSG_API int psg_key_random(struct psg_key *key, struct psg_error *err);
/* The key of a reproducible run. Anyone who knows seed knows the key: never for private data. */
PSG_API void psg_key_from_seed(uint64_t seed, struct psg_key *key);
/* Overwrites the key in a way that compilers do not remove. NULL does nothing. */
PSG_API void psg_key_wipe(struct psg_key *key);

/* Each fills out[n] with the numbers of coordinates first .. first + n - 1. Thread-safe.
 * PSG_E_RANGE, with nothing written, when step or a coordinate is outside of the layout;
 * n may be 0. */
PSG_API int psg_rng_fill_u32(const struct psg_key *key, enum psg_rng_purpose purpose,
                             uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                             uint32_t *out, struct psg_error *err);
PSG_API int psg_rng_fill_u64(const struct psg_key *key, enum psg_rng_purpose purpose,
                             uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                             uint64_t *out, struct psg_error *err);
/* Uniform in the open interval (0, 1): (k + 1/2) 2^-52 with k the upper 52 bits of the u64 of the
 * same coordinate. Mean exactly 1/2, never 0 or 1. */
PSG_API int psg_rng_fill_uniform(const struct psg_key *key, enum psg_rng_purpose purpose,
                                 uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                                 double *out, struct psg_error *err);
/* The same from the u32 of the coordinate, half the cost: (k + 1/2) 2^-23 with k its upper 23
 * bits; exact in float, and equal in both builds of the library. For dropout and the like. */
PSG_API int psg_rng_fill_real(const struct psg_key *key, enum psg_rng_purpose purpose,
                              uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                              psg_real *out, struct psg_error *err);

#ifdef __cplusplus
}
#endif
#endif
