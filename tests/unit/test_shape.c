#include <stdint.h>
#include <string.h>

#include "psg/shape.h"
#include "suite.h"

START_TEST(size_is_product_and_zero_wins_over_overflow)
{
    struct psg_shape s = PSG_SHAPE(3, 4, 5);
    ck_assert_int_eq(psg_shape_size(&s), 60);
    s = PSG_SHAPE(INT64_MAX, INT64_MAX, 0);
    ck_assert_int_eq(psg_shape_size(&s), 0);
    s = psg_shape_make(0, NULL);
    ck_assert_int_eq(psg_shape_size(&s), 1);
}
END_TEST

START_TEST(size_overflow_is_reported)
{
    struct psg_shape s = PSG_SHAPE(INT64_MAX, 2);
    ck_assert_int_eq(psg_shape_size(&s), -1);
}
END_TEST

START_TEST(text_is_truncated_never_overrun)
{
    struct psg_shape s = PSG_SHAPE(100, 200, 300);
    char buf[8];
    psg_shape_text(&s, buf, sizeof buf);
    ck_assert_str_eq(buf, "[100, 2");
    char all[32];
    ck_assert_str_eq(psg_shape_text(&s, all, sizeof all), "[100, 200, 300]");
}
END_TEST

START_TEST(error_text_is_bounded)
{
    struct psg_error err;
    char long_text[1000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    ck_assert_int_eq(psg_fail(&err, PSG_E_SHAPE, long_text, "%s", long_text), PSG_E_SHAPE);
    ck_assert_uint_eq(strlen(err.place), sizeof err.place - 1);
    ck_assert_uint_eq(strlen(err.text), sizeof err.text - 1);
    ck_assert_int_eq(psg_fail(NULL, PSG_E_IO, "f", "x"), PSG_E_IO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shape");
    TCase *tc = tcase_create("shape");
    tcase_add_test(tc, size_is_product_and_zero_wins_over_overflow);
    tcase_add_test(tc, size_overflow_is_reported);
    tcase_add_test(tc, text_is_truncated_never_overrun);
    tcase_add_test(tc, error_text_is_bounded);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
