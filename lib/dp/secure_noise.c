/* The discrete Gaussian of Canonne, Kamath and Steinke (2020), in integers. See psg/dp.h.
 *
 * The number of random bits that a value takes is not fixed, so each block of 64
 * coordinates has a stream of its own: a key is drawn from (PSG_RNG_SECURE_NOISE, step,
 * tensor), u64 coordinates 0 to 3, and under it the block's number takes the place of the
 * step. */
#include "psg/dp.h"

#include <math.h>
#include <string.h>

#include "chance.h"

enum { BLOCK = 64, WORDS = 64, MAX_LAPLACE = 64 };
static const int64_t MAX_SIGMA = INT64_C(1) << 25;

/* Random words of one block. An address out of range is found before, so reads do not fail.
 */
struct words {
    const struct psg_key *key;
    uint64_t block;
    int64_t next; /* coordinate of the first word that is not in the buffer */
    int at;
    uint64_t buffer[WORDS];
};

static uint64_t word(struct words *w)
{
    if (w->at == WORDS) {
        (void)psg_rng_fill_u64(w->key, PSG_RNG_SECURE_NOISE, w->block, 0, w->next, WORDS,
                               w->buffer, NULL);
        w->next += WORDS;
        w->at = 0;
    }
    return w->buffer[w->at++];
}

/* True with probability n / d exactly. */
static bool coin(struct words *w, uint64_t n, uint64_t d)
{
    int r;
    do
        r = chance_compare(word(w), n, d, &n);
    while (r < 0);
    return r;
}

/* True with probability exp(-n / d), n <= d (algorithm 1): the first k whose coin n / (d k)
 * fails is odd. k reaches 12 once in 2^28; d k stays far below 2^64 for d <= 2^51. */
static bool coin_exp_fraction(struct words *w, uint64_t n, uint64_t d)
{
    uint64_t k = 1;
    while (coin(w, n, d * k))
        k++;
    return k & 1;
}

static bool coin_exp(struct words *w, uint64_t n, uint64_t d)
{
    for (; n > d; n -= d)
        if (!coin_exp_fraction(w, 1, 1))
            return false;
    return coin_exp_fraction(w, n, d);
}

/* Uniform in [0, below), below < 2^32, without bias (Lemire 2019). */
static uint64_t uniform_below(struct words *w, uint64_t below)
{
    unsigned __int128 product = (unsigned __int128)word(w) * below;
    if ((uint64_t)product < below) {
        uint64_t uneven = (0 - below) % below;
        while ((uint64_t)product < uneven)
            product = (unsigned __int128)word(w) * below;
    }
    return (uint64_t)(product >> 64);
}

/* Magnitude and sign of a discrete Laplace number of scale t, P(x) ~ exp(-|x| / t)
 * (algorithm 2). False: draw again. Magnitudes of 64 t and more are dropped: algorithm 3
 * would accept them with probability below exp(-63^2 / 2) = 2^-2862. */
static bool laplace(struct words *w, uint64_t t, uint64_t *sizep, bool *minusp)
{
    uint64_t low = uniform_below(w, t), high = 0;
    if (!coin_exp_fraction(w, low, t))
        return false;
    while (coin_exp_fraction(w, 1, 1))
        high++;
    *sizep = low + t * high;
    *minusp = word(w) >> 63;
    return high < MAX_LAPLACE && !(*minusp && *sizep == 0);
}

/* Algorithm 3 with proposal scale sigma: accept with exp(-(|y| - sigma)^2 / (2 sigma^2)).
 */
static int64_t gaussian(struct words *w, uint64_t sigma)
{
    for (;;) {
        uint64_t size;
        bool minus;
        if (!laplace(w, sigma, &size, &minus))
            continue;
        uint64_t off = size > sigma ? size - sigma : sigma - size;
        if (coin_exp(w, off * off, 2 * sigma * sigma))
            return minus ? -(int64_t)size : (int64_t)size;
    }
}

static void gaussian_block(const struct psg_key *key, uint64_t block, uint64_t sigma,
                           int64_t *z)
{
    struct words w = { .key = key, .block = block, .at = WORDS };
    for (int i = 0; i < BLOCK; i++)
        z[i] = gaussian(&w, sigma);
}

static int block_key(const struct psg_key *key, uint64_t step, uint32_t tensor,
                     struct psg_key *outp, struct psg_error *err)
{
    uint64_t words[4];
    int r = psg_rng_fill_u64(key, PSG_RNG_SECURE_NOISE, step, tensor, 0, 4, words, err);
    for (int i = 0; r == 0 && i < 32; i++)
        outp->bytes[i] = (uint8_t)(words[i / 8] >> (8 * (i % 8)));
    return r;
}

int psg_discrete_gaussian_fill(const struct psg_key *key, uint64_t step, uint32_t tensor,
                               int64_t first, int64_t n, int64_t sigma, int64_t *out,
                               struct psg_error *err)
{
    struct psg_key blocks;
    int64_t limit = (int64_t)PSG_RNG_MAX_STEP, z[BLOCK];
    if (sigma < 1 || sigma > MAX_SIGMA)
        return psg_fail(err, PSG_E_RANGE, "sigma", "must be between 1 and 2^25");
    if (first < 0 || n < 0 || first > limit || n > limit - first)
        return psg_fail(err, PSG_E_RANGE, "noise",
                        "coordinate outside of the random stream");
    int r = block_key(key, step, tensor, &blocks, err);
    if (r)
        return r;
    for (int64_t done = 0; done < n;) {
        int64_t skip = (first + done) % BLOCK;
        int64_t take = BLOCK - skip < n - done ? BLOCK - skip : n - done;
        gaussian_block(&blocks, (uint64_t)((first + done) / BLOCK), (uint64_t)sigma, z);
        memcpy(out + done, z + skip, (size_t)take * sizeof *z);
        done += take;
    }
    psg_key_wipe(&blocks);
    return 0;
}

static bool is_positive(double x)
{
    return x > 0 && isfinite(x);
}

int psg_secure_noise_plan(double max_grad_norm, double noise_multiplier, int64_t n_params,
                          double sum_error, struct psg_secure_noise *plan,
                          struct psg_error *err)
{
    if (!is_positive(max_grad_norm))
        return psg_fail(err, PSG_E_RANGE, "max_grad_norm", "must be positive and finite");
    if (!is_positive(noise_multiplier))
        return psg_fail(err, PSG_E_RANGE, "noise_multiplier",
                        "must be positive and finite");
    if (n_params < 1)
        return psg_fail(err, PSG_E_RANGE, "n_params", "must be at least 1");
    if (!(sum_error >= 0 && isfinite(sum_error)))
        return psg_fail(err, PSG_E_RANGE, "sum_error", "must be finite and not negative");
    int e;
    (void)frexp(noise_multiplier * (max_grad_norm + 2 * sum_error),
                &e); /* in [2^(e-1), 2^e) */
    double grid = ldexp(1, e - 24);
    double sensitivity = max_grad_norm + grid * sqrt((double)n_params) + 2 * sum_error;
    sensitivity *= 1 + 0x1p-50; /* covers the rounding of this line and of the next */
    double sigma = ceil(noise_multiplier * sensitivity / grid * (1 + 0x1p-50));
    if (!is_positive(grid) || !isnormal(grid) || !(sigma <= (double)MAX_SIGMA))
        return psg_fail(err, PSG_E_RANGE, "secure_noise",
                        "no grid fits these bounds, noise and number of parameters");
    *plan = (struct psg_secure_noise){ .grid = grid,
                                       .sigma = (int64_t)sigma,
                                       .sensitivity = sensitivity };
    return 0;
}

/* x / grid as an integer; the division by a power of two is exact. */
static int64_t grid_round(double x, double grid)
{
    const double limit = 0x1p60;
    double steps = x / grid;
    if (isnan(steps))
        return 0;
    return llrint(fmin(fmax(steps, -limit), limit));
}

int psg_secure_noise_add(const struct psg_secure_noise *plan, const struct psg_key *key,
                         uint64_t step, uint32_t tensor, int64_t first, int64_t n,
                         psg_real *sum, struct psg_error *err)
{
    enum { PIECE = 16 * BLOCK };
    int64_t z[PIECE];
    for (int64_t done = 0; done < n;) {
        int64_t at = first + done, take = PIECE - at % BLOCK; /* ends where a block ends */
        take = take < n - done ? take : n - done;
        int r =
            psg_discrete_gaussian_fill(key, step, tensor, at, take, plan->sigma, z, err);
        if (r)
            return r;
        for (int64_t i = 0; i < take; i++)
            sum[done + i] =
                (psg_real)((double)(grid_round((double)sum[done + i], plan->grid) + z[i]) *
                           plan->grid);
        done += take;
    }
    return 0;
}
