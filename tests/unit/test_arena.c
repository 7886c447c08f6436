/* The arena and its canaries; which BLAS builds are accepted. */
#include <cblas.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "base/blas_kind.h"
#include "psg/blas.h"
#include "suite.h"

static void plan(struct base_arena *a, uint8_t **piece)
{
    piece[0] = base_arena_take(a, 3, 4);
    piece[1] = base_arena_take(a, 64, 1);
    piece[2] = base_arena_take(a, 0, 8);
    piece[3] = base_arena_take(a, 1000, 8);
}

START_TEST(counting_then_taking_fits_exactly)
{
    struct base_arena a = { 0 };
    uint8_t *piece[4];
    plan(&a, piece);
    ck_assert_ptr_null(piece[3]);
    ck_assert_uint_eq(a.used, 64 + 64 + 0 + 8000);
    ck_assert_int_eq(base_arena_open(&a, NULL), 0);
    for (int round = 0; round < 2; round++) {
        plan(&a, piece);
        for (int i = 0; i < 4; i++)
            ck_assert_uint_eq((uintptr_t)piece[i] % BASE_ARENA_ALIGN, 0);
        ck_assert_ptr_eq(piece[1], piece[0] + 64);
        ck_assert_ptr_eq(piece[3], piece[1] + 64);
        memset(piece[3], 1, 8000);
        ck_assert(!a.overflow);
        ck_assert_ptr_null(base_arena_take(&a, 1, 1));
        ck_assert(a.overflow);
        base_arena_reset(&a);
    }
    base_arena_close(&a);
    ck_assert_ptr_null(a.block);
}
END_TEST

START_TEST(sizes_that_overflow_are_refused)
{
    struct base_arena a = { 0 };
    base_arena_take(&a, SIZE_MAX / 2, 3);
    ck_assert(a.overflow);
    ck_assert_int_eq(base_arena_open(&a, NULL), PSG_E_RANGE);
    a = (struct base_arena){ 0 };
    base_arena_take(&a, SIZE_MAX - 10, 1);
    ck_assert(a.overflow);
    a = (struct base_arena){ 0 };
    base_arena_take(&a, SIZE_MAX / 2, 1);
    base_arena_take(&a, SIZE_MAX / 2, 1);
    base_arena_take(&a, SIZE_MAX / 2, 1);
    ck_assert(a.overflow);
    base_arena_close(&a);
}
END_TEST

START_TEST(large_blocks_are_aligned_and_zero)
{
    struct base_arena a = { 0 };
    base_arena_take(&a, 3 << 20, 1);
    ck_assert_int_eq(base_arena_open(&a, NULL), 0);
    uint8_t *p = base_arena_take(&a, 3 << 20, 1);
    ck_assert_ptr_nonnull(p);
    unsigned any = 0;
    for (int i = 0; i < 3 << 20; i++)
        any |= p[i];
    ck_assert_uint_eq(any, 0);
    base_arena_close(&a);
}
END_TEST

START_TEST(canaries_find_a_byte_out_of_place)
{
    struct base_arena a = { .canaries = true };
    uint8_t *piece[4];
    struct psg_error err;
    plan(&a, piece);
    ck_assert_int_eq(base_arena_open(&a, NULL), 0);
    plan(&a, piece);
    ck_assert_int_eq(base_arena_check(&a, &err), 0);
    memset(piece[0], 0, 12);
    memset(piece[1], 0, 64);
    memset(piece[3], 0, 8000);
    ck_assert_int_eq(base_arena_check(&a, &err), 0);
    static const int past[] = { 12, 64, 0, 8000 };
    for (int i = 0; i < 4; i++)
        for (int far = 0; far < 64; far += 9) {
            uint8_t *p = piece[i] + past[i] + far, before = *p;
            *p ^= 1;
            ck_assert_int_eq(base_arena_check(&a, &err), PSG_E_INVALID);
            ck_assert_int_eq(err.text[6], '0' + i);
            *p = before;
        }
    memset(piece[1] - 64, 0xff, 8);
    ck_assert_int_eq(base_arena_check(&a, &err), PSG_E_INVALID);
    base_arena_close(&a);
}
END_TEST

START_TEST(blas_builds_that_threads_cannot_share_are_refused)
{
    struct psg_error err;
    ck_assert_int_eq(blas_judge(OPENBLAS_SEQUENTIAL, 1, &err), 0);
    ck_assert_int_eq(blas_judge(OPENBLAS_SEQUENTIAL, 2, &err), PSG_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "libopenblas0-pthread"));
    ck_assert_int_eq(blas_judge(OPENBLAS_THREAD, 64, &err), 0);
    ck_assert_int_eq(blas_judge(OPENBLAS_OPENMP, 2, &err), PSG_E_UNSUPPORTED);
    ck_assert_int_eq(blas_judge(OPENBLAS_OPENMP, 1, &err), 0);
    ck_assert_int_eq(blas_judge(OPENBLAS_THREAD, 0, &err), PSG_E_RANGE);
    ck_assert_int_eq(psg_blas_check(1, &err), 0);
    ck_assert_int_eq(openblas_get_num_threads(), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena");
    TCase *tc = tcase_create("arena");
    tcase_add_test(tc, counting_then_taking_fits_exactly);
    tcase_add_test(tc, sizes_that_overflow_are_refused);
    tcase_add_test(tc, large_blocks_are_aligned_and_zero);
    tcase_add_test(tc, canaries_find_a_byte_out_of_place);
    tcase_add_test(tc, blas_builds_that_threads_cannot_share_are_refused);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
