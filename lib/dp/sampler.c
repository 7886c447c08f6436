/* Poisson sampling by exact coins, and shuffled batches of fixed size. See psg/dp.h. */
#include "psg/dp.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "chance.h"

/* Streams of PSG_RNG_SAMPLING: the upper 32 bits of each coin, and the lower 64 that are
 * read only when the upper ones equal the threshold. */
enum { STREAM_COIN = 0, STREAM_TIE = 1, STREAM_CUT = 2 };
enum {
    GAP_DIGITS = 32,
    GAP_WORDS = GAP_DIGITS + 1,
    GAPS_PER_PIECE = 32,
    PIECE_WORDS = 1024
};
#define MAX_RECORDS (INT64_C(1) << 32)

void psg_batch_free(struct psg_batch *batch)
{
    free(batch->record);
    *batch = (struct psg_batch){ 0 };
}

static int batch_reserve(struct psg_batch *batch, int64_t n, struct psg_error *err)
{
    if (n <= batch->capacity)
        return 0;
    int64_t capacity = batch->capacity < 64 ? 64 : batch->capacity;
    while (capacity < n)
        capacity *= 2;
    int64_t *record = realloc(batch->record, (size_t)capacity * sizeof *record);
    if (!record)
        return psg_fail(err, PSG_E_NOMEM, "batch", "no memory for %lld records",
                        (long long)capacity);
    batch->record = record;
    batch->capacity = capacity;
    return 0;
}

int psg_poisson_init(struct psg_poisson *p, const struct psg_key *key, int64_t n_records,
                     double sample_rate, struct psg_error *err)
{
    if (n_records < 0 || n_records > MAX_RECORDS)
        return psg_fail(err, PSG_E_RANGE, "n_records", "must be between 0 and 2^32");
    if (!(sample_rate >= 0 && sample_rate <= 1))
        return psg_fail(err, PSG_E_RANGE, "sample_rate", "must be between 0 and 1");
    *p = (struct psg_poisson){ .key = *key, .n_records = n_records };
    p->by_gaps = sample_rate < 1.0 / 32;
    p->join = chance_of_double(sample_rate);
    if (p->by_gaps)
        chance_of_gap_digits(sample_rate, p->digit, &p->beyond);
    return 0;
}

/* One coin: word is its upper 32 bits, coordinate where it was drawn. */
static int coin(const struct psg_poisson *p, uint64_t step, const struct psg_chance *chance,
                uint32_t word, int64_t coordinate, bool *hitp, struct psg_error *err)
{
    *hitp = chance->certain || word < chance->high;
    if (chance->certain || word != chance->high)
        return 0;
    uint64_t low;
    int r = psg_rng_fill_u64(&p->key, PSG_RNG_SAMPLING, step, STREAM_TIE, coordinate, 1,
                             &low, err);
    *hitp = low < chance->low;
    return r;
}

static int draw_by_record(const struct psg_poisson *p, uint64_t step,
                          struct psg_batch *batch, struct psg_error *err)
{
    uint32_t words[PIECE_WORDS];
    for (int64_t first = 0; first < p->n_records; first += PIECE_WORDS) {
        int64_t n = p->n_records - first;
        n = n < PIECE_WORDS ? n : PIECE_WORDS;
        int r = psg_rng_fill_u32(&p->key, PSG_RNG_SAMPLING, step, STREAM_COIN, first, n,
                                 words, err);
        if (!r)
            r = batch_reserve(batch, batch->n + n, err);
        for (int64_t i = 0; !r && i < n; i++) {
            bool hit;
            r = coin(p, step, &p->join, words[i], first + i, &hit, err);
            if (hit)
                batch->record[batch->n++] = first + i;
        }
        if (r)
            return r;
    }
    return 0;
}

/* words[GAP_WORDS] at `coordinate` -> gap, or GAP_BEYOND when it is 2^32 or more. */
#define GAP_BEYOND INT64_MAX

static int gap_of_words(const struct psg_poisson *p, uint64_t step, const uint32_t *words,
                        int64_t coordinate, int64_t *gapp, struct psg_error *err)
{
    bool hit;
    *gapp = GAP_BEYOND;
    int r = coin(p, step, &p->beyond, words[0], coordinate, &hit, err);
    if (r || hit)
        return r;
    int64_t gap = 0;
    for (int j = 0; j < GAP_DIGITS; j++) {
        r = coin(p, step, &p->digit[j], words[1 + j], coordinate + 1 + j, &hit, err);
        if (r)
            return r;
        gap |= (int64_t)hit << j;
    }
    *gapp = gap;
    return 0;
}

static int draw_by_gaps(const struct psg_poisson *p, uint64_t step, struct psg_batch *batch,
                        struct psg_error *err)
{
    uint32_t words[GAPS_PER_PIECE * GAP_WORDS];
    int64_t next = 0; /* the first record that is still undecided */
    for (int64_t drawn = 0; next < p->n_records; drawn++) {
        int at = (int)(drawn % GAPS_PER_PIECE) * GAP_WORDS;
        int r = 0;
        if (at == 0)
            r = psg_rng_fill_u32(&p->key, PSG_RNG_SAMPLING, step, STREAM_COIN,
                                 drawn * GAP_WORDS, GAPS_PER_PIECE * GAP_WORDS, words, err);
        int64_t gap = 0;
        if (!r)
            r = gap_of_words(p, step, words + at, drawn * GAP_WORDS, &gap, err);
        if (r)
            return r;
        if (gap >= p->n_records - next)
            break;
        r = batch_reserve(batch, batch->n + 1, err);
        if (r)
            return r;
        batch->record[batch->n++] = next + gap;
        next += gap + 1;
    }
    return 0;
}

int psg_poisson_draw(const struct psg_poisson *p, uint64_t step, struct psg_batch *batch,
                     struct psg_error *err)
{
    batch->n = 0;
    int r = p->by_gaps ? draw_by_gaps(p, step, batch, err)
                       : draw_by_record(p, step, batch, err);
    if (r)
        batch->n = 0;
    return r;
}

/* Uniform in [0, below) from one u64 of a stream; the biased rest of the range, less than
 * below / 2^64 of it, is drawn again from the streams after it. */
static int uniform_below(const struct psg_key *key, enum psg_rng_purpose purpose, uint64_t step,
                         uint32_t stream, int64_t coordinate, uint64_t word, uint64_t below,
                         uint64_t *outp, struct psg_error *err)
{
    uint64_t uneven = (0 - below) % below; /* 2^64 mod below */
    while (word < uneven) {
        int r = psg_rng_fill_u64(key, purpose, step, ++stream, coordinate, 1, &word, err);
        if (r)
            return r;
    }
    *outp = word % below;
    return 0;
}

static int compare_records(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int psg_batch_truncate(const struct psg_key *key, uint64_t step, int64_t max,
                       struct psg_batch *batch, struct psg_error *err)
{
    if (max < 1)
        return psg_fail(err, PSG_E_RANGE, "max_batch_size", "must be at least 1");
    if (batch->n <= max)
        return 0;
    for (int64_t i = 0; i < max; i++) { /* Fisher and Yates, the first max places */
        uint64_t word, j;
        int r = psg_rng_fill_u64(key, PSG_RNG_SAMPLING, step, STREAM_CUT, i, 1, &word, err);
        if (r == 0)
            r = uniform_below(key, PSG_RNG_SAMPLING, step, STREAM_CUT, i, word,
                              (uint64_t)(batch->n - i), &j, err);
        if (r)
            return r;
        int64_t other = batch->record[i + (int64_t)j];
        batch->record[i + (int64_t)j] = batch->record[i];
        batch->record[i] = other;
    }
    batch->n = max;
    qsort(batch->record, (size_t)max, sizeof *batch->record, compare_records);
    return 0;
}

struct psg_shuffle {
    struct psg_key key;
    int64_t n_records, batch_size, steps_per_epoch;
    uint64_t epoch; /* of the permutation below */
    bool ready;
    int64_t order[]; /* [n_records] */
};

int psg_shuffle_new(const struct psg_key *key, int64_t n_records, int64_t batch_size,
                    struct psg_shuffle **shufflep, struct psg_error *err)
{
    if (n_records < 0 || n_records > MAX_RECORDS)
        return psg_fail(err, PSG_E_RANGE, "n_records", "must be between 0 and 2^32");
    if (batch_size < 1)
        return psg_fail(err, PSG_E_RANGE, "batch_size", "must be at least 1");
    struct psg_shuffle *s = malloc(sizeof *s + (size_t)n_records * sizeof s->order[0]);
    if (!s)
        return psg_fail(err, PSG_E_NOMEM, "shuffle", "no memory for %lld records",
                        (long long)n_records);
    int64_t steps = n_records / batch_size + (n_records % batch_size != 0);
    *s = (struct psg_shuffle){ .key = *key,
                               .n_records = n_records,
                               .batch_size = batch_size,
                               .steps_per_epoch = steps ? steps : 1 };
    *shufflep = s;
    return 0;
}

struct psg_shuffle *psg_shuffle_free(struct psg_shuffle *shuffle)
{
    if (shuffle)
        psg_key_wipe(&shuffle->key);
    free(shuffle);
    return NULL;
}

int64_t psg_shuffle_steps_per_epoch(const struct psg_shuffle *shuffle)
{
    return shuffle->steps_per_epoch;
}

static int shuffle_permute(struct psg_shuffle *s, uint64_t epoch, struct psg_error *err)
{
    enum { PIECE = 1024 };
    uint64_t words[PIECE];
    s->ready = false;
    s->epoch = epoch;
    for (int64_t i = 0; i < s->n_records; i++) {
        int r = 0;
        if (i % PIECE == 0)
            r = psg_rng_fill_u64(&s->key, PSG_RNG_SHUFFLE, epoch, 0, i, PIECE, words, err);
        uint64_t j = 0;
        if (!r)
            r = uniform_below(&s->key, PSG_RNG_SHUFFLE, epoch, 0, i, words[i % PIECE],
                              (uint64_t)i + 1, &j, err);
        if (r)
            return r;
        if ((int64_t)j !=
            i) /* inside-out: what stood at j moves to the end, i takes its place */
            s->order[i] = s->order[j];
        s->order[j] = i;
    }
    s->ready = true;
    return 0;
}

int psg_shuffle_draw(struct psg_shuffle *s, uint64_t step, struct psg_batch *batch,
                     struct psg_error *err)
{
    batch->n = 0;
    uint64_t epoch = step / (uint64_t)s->steps_per_epoch;
    if (!s->ready || epoch != s->epoch) {
        int r = shuffle_permute(s, epoch, err);
        if (r)
            return r;
    }
    int64_t first = (int64_t)(step % (uint64_t)s->steps_per_epoch) * s->batch_size;
    int64_t n = s->n_records - first < s->batch_size ? s->n_records - first : s->batch_size;
    int r = batch_reserve(batch, n, err);
    if (r)
        return r;
    if (n > 0)
        memcpy(batch->record, s->order + first, (size_t)n * sizeof *batch->record);
    batch->n = n;
    return 0;
}
