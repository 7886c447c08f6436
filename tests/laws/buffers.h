/* Seeded shapes and guarded buffers for tests that hold one backend to another.
 *
 * A buffer has canaries on both sides of its numbers; buffer_close() compares two buffers
 * and fails the test where a number is off or a canary was touched. */
#ifndef TESTS_BUFFERS_H
#define TESTS_BUFFERS_H

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "psg/backend.h"
#include "suite.h"

/* under AddressSanitizer the canaries may not even be read while a kernel runs */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#ifdef PSG_REAL_DOUBLE
#define REAL_EPS DBL_EPSILON
#else
#define REAL_EPS FLT_EPSILON
#endif

struct seed {
    uint64_t state;
};

/* splitmix64 (Steele, Lea, Flood 2014) */
static inline uint64_t seed_next(struct seed *s)
{
    uint64_t z = s->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* low <= value <= high */
static inline int64_t seed_int(struct seed *s, int64_t low, int64_t high)
{
    return low + (int64_t)(seed_next(s) % (uint64_t)(high - low + 1));
}

static inline double seed_real(struct seed *s, double low, double high)
{
    return low + (high - low) * ((double)(seed_next(s) >> 11) * 0x1p-53);
}

/* sizes that kernels like to get wrong: 0, 1, odd, around vector lengths, sometimes large
 */
static inline int64_t seed_size(struct seed *s, int64_t high)
{
    static const int64_t edge[] = { 0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 65 };
    int64_t size = edge[seed_next(s) % (sizeof edge / sizeof *edge)];
    if (seed_next(s) % 4 == 0)
        size = seed_int(s, 0, high);
    return size > high ? high : size;
}

enum { BUFFER_GUARD = 32 };

/* Memory that kernels and the host both read. A program that tests a GPU brings its own. */
#ifdef BUFFERS_SHARED
void *shared_room(size_t bytes);
void shared_free(void *memory);
#else
static inline void *shared_room(size_t bytes)
{
    return malloc(bytes);
}

static inline void shared_free(void *memory)
{
    free(memory);
}
#endif

/* n zeros of any type. */
static inline void *shared_zeros(int64_t n, size_t size)
{
    void *memory = shared_room((size_t)n * size + 1);
    ck_assert_ptr_nonnull(memory);
    return memset(memory, 0, (size_t)n * size);
}

struct buffer {
    int64_t n;
    psg_real *all, *at; /* at = all + BUFFER_GUARD */
};

static inline psg_real buffer_canary(int64_t i)
{
    return (psg_real)(-12345678 - i);
}

static inline struct buffer buffer_make(int64_t n)
{
    struct buffer b = { .n = n };
    b.all = shared_room((size_t)(n + 2 * BUFFER_GUARD) * sizeof(psg_real));
    ck_assert_ptr_nonnull(b.all);
    b.at = b.all + BUFFER_GUARD;
    for (int64_t i = 0; i < BUFFER_GUARD; i++)
        b.all[i] = b.at[n + i] = buffer_canary(i);
    for (int64_t i = 0; i < n; i++)
        b.at[i] = (psg_real)NAN;
    ASAN_POISON_MEMORY_REGION(b.all, BUFFER_GUARD * sizeof *b.all);
    ASAN_POISON_MEMORY_REGION(b.at + n, BUFFER_GUARD * sizeof *b.all);
    return b;
}

static inline struct buffer buffer_random(struct seed *s, int64_t n, double low,
                                          double high)
{
    struct buffer b = buffer_make(n);
    for (int64_t i = 0; i < n; i++)
        b.at[i] = (psg_real)seed_real(s, low, high);
    return b;
}

static inline struct buffer buffer_clone(const struct buffer *from)
{
    struct buffer b = buffer_make(from->n);
    memcpy(b.at, from->at, (size_t)from->n * sizeof(psg_real));
    return b;
}

/* |x|: a kernel run on magnitudes gives the sum of absolute terms that errors are relative
 * to */
static inline struct buffer buffer_abs(const struct buffer *from)
{
    struct buffer b = buffer_make(from->n);
    for (int64_t i = 0; i < from->n; i++)
        b.at[i] = (psg_real)fabs((double)from->at[i]);
    return b;
}

static inline void buffer_unguard(const struct buffer *b)
{
    ASAN_UNPOISON_MEMORY_REGION(b->all, (size_t)(b->n + 2 * BUFFER_GUARD) * sizeof *b->all);
}

static inline void buffer_freep(struct buffer *b)
{
    buffer_unguard(b);
    shared_free(b->all);
}

#define _cleanup_buffer_ __attribute__((cleanup(buffer_freep)))

static inline bool number_close(double got, double want, double tolerance)
{
    if (isnan(want) || isinf(want))
        return (isnan(want) && isnan(got)) || got == want;
    return fabs(got - want) <= tolerance;
}

/* |got - want| <= terms * eps * (scale[i] + floor), scale NULL: |want|. NaN equals NaN. */
static inline void buffer_close(const char *what, const struct buffer *got,
                                const struct buffer *want, const struct buffer *scale,
                                double terms, double floor)
{
    buffer_unguard(got);
    for (int64_t i = 0; i < BUFFER_GUARD; i++)
        ck_assert_msg(got->all[i] == buffer_canary(i) &&
                          got->at[got->n + i] == buffer_canary(i),
                      "%s: wrote outside of its %lld numbers", what, (long long)got->n);
    for (int64_t i = 0; i < got->n; i++) {
        double size = fabs(scale ? (double)scale->at[i] : (double)want->at[i]) + floor;
        ck_assert_msg(
            number_close((double)got->at[i], (double)want->at[i], terms * REAL_EPS * size),
            "%s[%lld of %lld]: %.9g, reference %.9g, allowed error %.3g", what,
            (long long)i, (long long)got->n, (double)got->at[i], (double)want->at[i],
            terms * REAL_EPS * size);
    }
}

#endif
