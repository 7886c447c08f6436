/* Standard normal numbers from the counter-based generator. See psg/dp.h.
 *
 * One ChaCha20 block gives 16 words and 16 normals: word j < 8 is the radius and word j + 8
 * the angle of pair j, whose values go to coordinates j (cosine) and j + 8 (sine) of the
 * block. u = (w / 2 + 1/2) 2^-31,  R = sqrt(-2 log u),  z = R cos t, R sin t,  t = 2 pi w'
 * / 2^32 Rare pairs with w < 2^20 take 32 more bits below their 31 from the tail stream, at
 * the coordinate of the pair, and u = (... + 1/2) 2^-63. */
#include "base/exact_float.h"

#include "psg/dp.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 16, HALF = 8, PIECE_BLOCKS = 64, PIECE = BLOCK * PIECE_BLOCKS };
enum { RADIUS_BITS = 31, TAIL_BITS = 63 };
#define TAIL_LIMIT (UINT32_C(1) << 20)

static inline uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* -2 log((1 + f) 2^e) for 1 + f in [sqrt(1/2), sqrt(2)]. The polynomial is the minimax fit
 * of (log(1 + f) - f + f^2/2) / f^3 (relative error of the logarithm 7.5e-10 before
 * rounding). */
static inline float minus_2_log(float f, float e)
{
    float y = f * f;
    float p = 0.067481935f;
    p = p * f - 0.11677004f;
    p = p * f + 0.11888157f;
    p = p * f - 0.1240532f;
    p = p * f + 0.14219511f;
    p = p * f - 0.16668013f;
    p = p * f + 0.20002122f;
    p = p * f - 0.25000009f;
    p = p * f + 0.33333313f;
    float low = p * f * y - 0.5f * y - e * 2.1219444e-4f;
    return -2.0f * (low + f + e * 0.693359375f); /* log 2 = 0.693359375 - 2.12e-4 */
}

/* Mantissa in [sqrt(1/2), sqrt(2)) less one, and exponent, of x > 0. */
static inline float split(float x, int *ep)
{
    uint32_t bits = float_bits(x);
    int e = (int)(bits - 0x3f3504f3u) >> 23;
    *ep = e;
    return float_of_bits(bits - ((uint32_t)e << 23)) - 1.0f;
}

/* R^2 of a radius word. Close to u = 1 a float u is too coarse: there 1 - u is used
 * directly. */
static inline float radius_squared(uint32_t w)
{
    int e;
    float f = split((float)(int32_t)(w >> 1) + 0.5f, &e);
    float g = ((float)(int32_t)((w >> 1) ^ 0x80000000u) + 0.5f) * 0x1p-31f; /* u - 1 */
    e -= RADIUS_BITS;
    return minus_2_log(e == 0 ? g : f, (float)e);
}

static float tail_radius(uint32_t w, uint32_t more)
{
    int e;
    double v = (double)((uint64_t)(w >> 1) << 32 | more) + 0.5; /* below 2^51: exact */
    float f = split((float)v, &e);
    return sqrtf(minus_2_log(f, (float)(e - TAIL_BITS)));
}

/* cos and sin of 2 pi (w + 1/2) / 2^32 by quarter turns; the rest lies in [-pi/4, pi/4]. */
static inline void turn(uint32_t w, float *cosp, float *sinp)
{
    uint32_t quarter = (w + 0x20000000u) >> 30;
    float t = ((float)(int32_t)(w - (quarter << 30)) + 0.5f) * 1.4629180792671596e-9f;
    float y = t * t;
    float s = t + t * y * ((-1.9517309e-4f * y + 0.008332178f) * y - 0.16666655f);
    float c =
        1.0f - 0.5f * y + y * y * ((2.443849e-5f * y - 0.0013887368f) * y + 0.041666646f);
    bool odd = quarter & 1;
    float a = odd ? s : c, b = odd ? c : s;
    *cosp = float_of_bits(float_bits(a) ^ ((quarter + 1) & 2) << 30);
    *sinp = float_of_bits(float_bits(b) ^ (quarter & 2) << 30);
}

/* radius[n], angle[n] words -> radius and both values; returns the smallest radius word. */
static inline __attribute__((always_inline)) uint32_t transform(
    const uint32_t *restrict radius, const uint32_t *restrict angle, int n,
    float *restrict zc, float *restrict zs)
{
    uint32_t least = UINT32_MAX;
    for (int i = 0; i < n; i++) {
        float r = sqrtf(radius_squared(radius[i])), c, s;
        turn(angle[i], &c, &s);
        zc[i] = r * c;
        zs[i] = r * s;
        least = radius[i] < least ? radius[i] : least;
    }
    return least;
}

static uint32_t transform_base(const uint32_t *radius, const uint32_t *angle, int n,
                               float *zc, float *zs)
{
    return transform(radius, angle, n, zc, zs);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint32_t transform_avx2(const uint32_t *radius,
                                                               const uint32_t *angle, int n,
                                                               float *zc, float *zs)
{
    return transform(radius, angle, n, zc, zs);
}

#if defined(__clang__)
#define WIDE_VECTORS "avx512f,avx512dq"
#else
#define WIDE_VECTORS "avx512f,avx512dq,prefer-vector-width=512"
#endif

__attribute__((target(WIDE_VECTORS))) static uint32_t transform_avx512(
    const uint32_t *radius, const uint32_t *angle, int n, float *zc, float *zs)
{
    return transform(radius, angle, n, zc, zs);
}
#endif

static uint32_t transform_best(const uint32_t *radius, const uint32_t *angle, int n,
                               float *zc, float *zs)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return transform_avx512(radius, angle, n, zc, zs);
    if (__builtin_cpu_supports("avx2"))
        return transform_avx2(radius, angle, n, zc, zs);
#endif
    return transform_base(radius, angle, n, zc, zs);
}

/* Where the normals of one call come from. */
struct source {
    const struct psg_key *key;
    enum psg_rng_purpose purpose;
    uint64_t step;
    uint32_t tensor;
};

static int refine_tail(const struct source *src, int64_t first_block, int n_pairs,
                       const uint32_t *radius, const uint32_t *angle, float *zc, float *zs,
                       struct psg_error *err)
{
    for (int i = 0; i < n_pairs; i++) {
        if (radius[i] >= TAIL_LIMIT)
            continue;
        uint32_t more;
        int r =
            psg_rng_fill_u32(src->key, (enum psg_rng_purpose)(src->purpose + 1), src->step,
                             src->tensor, first_block * HALF + i, 1, &more, err);
        if (r)
            return r;
        float c, s, rad = tail_radius(radius[i], more);
        turn(angle[i], &c, &s);
        zc[i] = rad * c;
        zs[i] = rad * s;
    }
    return 0;
}

/* z[16 n_blocks]: the normals of whole blocks. */
static int normal_blocks(const struct source *src, int64_t first_block, int n_blocks,
                         float *z, struct psg_error *err)
{
    enum { PAIRS = HALF * PIECE_BLOCKS };
    uint32_t words[PIECE], radius[PAIRS], angle[PAIRS];
    float zc[PAIRS], zs[PAIRS];
    int n_pairs = HALF * n_blocks;
    int r = psg_rng_fill_u32(src->key, src->purpose, src->step, src->tensor,
                             first_block * BLOCK, (int64_t)BLOCK * n_blocks, words, err);
    if (r)
        return r;
    for (int b = 0; b < n_blocks; b++) {
        memcpy(radius + HALF * b, words + BLOCK * b, HALF * sizeof *words);
        memcpy(angle + HALF * b, words + BLOCK * b + HALF, HALF * sizeof *words);
    }
    if (transform_best(radius, angle, n_pairs, zc, zs) < TAIL_LIMIT) {
        r = refine_tail(src, first_block, n_pairs, radius, angle, zc, zs, err);
        if (r)
            return r;
    }
    for (int b = 0; b < n_blocks; b++) {
        memcpy(z + BLOCK * b, zc + HALF * b, HALF * sizeof *z);
        memcpy(z + BLOCK * b + HALF, zs + HALF * b, HALF * sizeof *z);
    }
    return 0;
}

/* What to do with each piece of normals z[n], which belong at position `at` of the output.
 */
typedef void (*piece_fn)(void *arg, int64_t at, int n, const float *z);

static int for_each_piece(const struct source *src, int64_t first, int64_t n, piece_fn fn,
                          void *arg, struct psg_error *err)
{
    float z[PIECE];
    if (first < 0 || n < 0 || first > INT64_MAX - BLOCK - n)
        return psg_fail(err, PSG_E_RANGE, "noise",
                        "coordinate outside of the random stream");
    for (int64_t done = 0; done < n;) {
        int64_t block = (first + done) / BLOCK;
        int skip = (int)((first + done) % BLOCK);
        int64_t want = skip + (n - done);
        int n_blocks = want >= PIECE ? PIECE_BLOCKS : (int)((want + BLOCK - 1) / BLOCK);
        int take = (int)(want >= PIECE ? PIECE : want) - skip;
        int r = normal_blocks(src, block, n_blocks, z, err);
        if (r)
            return r;
        fn(arg, done, take, z + skip);
        done += take;
    }
    return 0;
}

static void piece_copy(void *arg, int64_t at, int n, const float *z)
{
    memcpy((float *)arg + at, z, (size_t)n * sizeof *z);
}

int psg_normal_fill(const struct psg_key *key, enum psg_rng_purpose purpose, uint64_t step,
                    uint32_t tensor, int64_t first, int64_t n, float *out,
                    struct psg_error *err)
{
    if (purpose != PSG_RNG_NOISE && purpose != PSG_RNG_TELEMETRY &&
        purpose != PSG_RNG_ADAPTIVE_CLIP)
        return psg_fail(err, PSG_E_INVALID, "purpose",
                        "has no stream for the tail of normals");
    struct source src = { key, purpose, step, tensor };
    return for_each_piece(&src, first, n, piece_copy, out, err);
}

struct scaled {
    psg_real *out;
    psg_real stddev;
};

static void piece_fill(void *arg, int64_t at, int n, const float *z)
{
    const struct scaled *s = arg;
    psg_real *out = s->out + at;
    for (int i = 0; i < n; i++)
        out[i] = s->stddev * z[i];
}

static void piece_add(void *arg, int64_t at, int n, const float *z)
{
    const struct scaled *s = arg;
    psg_real *out = s->out + at;
    for (int i = 0; i < n; i++)
        out[i] += s->stddev * z[i];
}

static int noise_make(const struct psg_key *key, uint64_t step, uint32_t tensor,
                      int64_t first, int64_t n, double stddev, psg_real *out, piece_fn fn,
                      struct psg_error *err)
{
    psg_real scale = (psg_real)stddev;
    if (!(stddev >= 0) || !isfinite(scale))
        return psg_fail(err, PSG_E_RANGE, "stddev", "must be finite and not negative");
    struct source src = { key, PSG_RNG_NOISE, step, tensor };
    struct scaled scaled = { out, scale };
    return for_each_piece(&src, first, n, fn, &scaled, err);
}

int psg_noise_fill(const struct psg_key *key, uint64_t step, uint32_t tensor, int64_t first,
                   int64_t n, double stddev, psg_real *out, struct psg_error *err)
{
    return noise_make(key, step, tensor, first, n, stddev, out, piece_fill, err);
}

int psg_noise_add(const struct psg_key *key, uint64_t step, uint32_t tensor, int64_t first,
                  int64_t n, double stddev, psg_real *out, struct psg_error *err)
{
    return noise_make(key, step, tensor, first, n, stddev, out, piece_add, err);
}
