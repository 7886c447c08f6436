#include <locale.h>
#include <math.h>

#include "proto/text.h"
#include "suite.h"

static void expect_duration(const char *text, double seconds)
{
    double got;
    ck_assert_msg(proto_duration_parse(text, &got) == 0, "%s", text);
    ck_assert_double_eq_tol(got, seconds, 1e-12 * seconds);
}

START_TEST(durations_have_a_number_and_a_unit)
{
    double unchanged = 7;
    expect_duration("250ms", 0.25);
    expect_duration("30s", 30);
    expect_duration("5m", 300);
    expect_duration("1.5h", 5400);
    expect_duration("2d", 172800);
    static const char *const wrong[] = { "",      "s",    "30",  "30 s", " 30s",  "30S",
                                         "30sec", "-1s",  "+1s", "1e3s", ".5s",   "5.s",
                                         "1,5s",  "0x1s", "01s", "infs", "1.2.3s" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(proto_duration_parse(wrong[i], &unchanged) == -1, "%s", wrong[i]);
    ck_assert_double_eq(unchanged, 7);
}
END_TEST

START_TEST(duration_text_reads_back)
{
    static const double values[] = { 0, 0.1, 0.25, 1, 30, 90.5, 1e6, 604800, 1e15, 1e300 };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char buf[PROTO_REAL_MAX];
        double got;
        proto_duration_text(values[i], buf);
        ck_assert_msg(proto_duration_parse(buf, &got) == 0, "%s", buf);
        ck_assert_double_eq_tol(got, fmin(values[i], 1e15), 1e-6);
    }
    char buf[PROTO_REAL_MAX];
    ck_assert_str_eq(proto_duration_text(30, buf), "30s");
}
END_TEST

START_TEST(sizes_are_powers_of_1024)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } right[] = { { "0", 0 },
                  { "4096", 4096 },
                  { "64K", 65536 },
                  { "1M", 1048576 },
                  { "2G", 2147483648 },
                  { "1T", 1099511627776 },
                  { "18446744073709551615", UINT64_MAX } };
    uint64_t got = 0;
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        ck_assert_int_eq(proto_size_parse(right[i].text, &got), 0);
        ck_assert_uint_eq(got, right[i].bytes);
    }
    static const char *const wrong[] = {
        "", "K", "1k", "1KB", "1 K", "-1", "1.5M", "01", "18446744073709551616", "99999999T"
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(proto_size_parse(wrong[i], &got) == -1, "%s", wrong[i]);
}
END_TEST

START_TEST(times_are_rfc_3339_in_utc)
{
    static const struct {
        const char *text;
        int64_t ms;
    } right[] = { { "1970-01-01T00:00:00Z", 0 },
                  { "2000-02-29T12:34:56.789Z", 951827696789 },
                  { "2024-12-31T23:59:59.999Z", 1735689599999 },
                  { "2100-03-01T00:00:00.5Z", 4107542400500 },
                  { "9999-12-31T23:59:59.999999Z", 253402300799999 } };
    int64_t got = 0;
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        ck_assert_int_eq(proto_time_parse(right[i].text, &got), 0);
        ck_assert_int_eq(got, right[i].ms);
    }
    static const char *const wrong[] = { "",
                                         "2024-02-30T00:00:00Z",
                                         "2100-02-29T00:00:00Z",
                                         "2024-13-01T00:00:00Z",
                                         "2024-01-01T24:00:00Z",
                                         "2024-01-01T00:00:60Z",
                                         "2024-01-01 00:00:00Z",
                                         "2024-01-01T00:00:00",
                                         "2024-01-01T00:00:00+01:00",
                                         "2024-01-01T00:00:00.Z",
                                         "1969-12-31T23:59:59Z",
                                         "2024-1-1T00:00:00Z",
                                         "2024-01-01T00:00:00Zx" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(proto_time_parse(wrong[i], &got) == -1, "%s", wrong[i]);
}
END_TEST

START_TEST(time_text_reads_back_through_every_day)
{
    for (int64_t ms = 0; ms < 253402300800000; ms += 86400000LL * 13 + 12345678) {
        char buf[PROTO_TIME_MAX];
        int64_t got = -1;
        ck_assert_msg(proto_time_parse(proto_time_text(ms, buf), &got) == 0, "%s", buf);
        ck_assert_int_eq(got, ms);
    }
}
END_TEST

START_TEST(reals_read_back_and_are_short)
{
    char buf[PROTO_REAL_MAX];
    ck_assert_str_eq(proto_real_text(0.1, buf), "0.1");
    ck_assert_str_eq(proto_real_text(1e-5, buf), "1e-05");
    ck_assert_str_eq(proto_real_text(8, buf), "8");
    ck_assert_str_eq(proto_real_text(NAN, buf), "null");
    ck_assert_str_eq(proto_real_text(-INFINITY, buf), "null");
    uint64_t state = 1;
    for (int i = 0; i < 20000; i++) {
        double value, got;
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = state ^ state >> 29;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        proto_real_text(value, buf);
        ck_assert_msg(proto_real_parse(buf, strlen(buf), &got) == 0, "%s", buf);
        ck_assert_double_eq(got, value);
    }
}
END_TEST

START_TEST(reals_have_the_grammar_of_json)
{
    double got;
    static const char *const wrong[] = { "",      "-",   "+1",   ".5",  "5.",    "01",
                                         "1e",    "1e+", "0x10", "nan", "inf",   "Infinity",
                                         "1_000", "1,5", " 1",   "1 ",  "1e999", "-1e999" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(proto_real_parse(wrong[i], strlen(wrong[i]), &got) == -1, "%s",
                      wrong[i]);
    ck_assert_int_eq(proto_real_parse("1e-999", 6, &got), 0);
    ck_assert_double_eq(got, 0);
    ck_assert_int_eq(proto_real_parse("-0.5E+2", 7, &got), 0);
    ck_assert_double_eq(got, -50);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("proto_text");
    TCase *tc = tcase_create("text");
    tcase_add_test(tc, durations_have_a_number_and_a_unit);
    tcase_add_test(tc, duration_text_reads_back);
    tcase_add_test(tc, sizes_are_powers_of_1024);
    tcase_add_test(tc, times_are_rfc_3339_in_utc);
    tcase_add_test(tc, time_text_reads_back_through_every_day);
    tcase_add_test(tc, reals_read_back_and_are_short);
    tcase_add_test(tc, reals_have_the_grammar_of_json);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
