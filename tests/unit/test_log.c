#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "suite.h"

static char line[LOG_LINE_MAX + 1];

static const char *format(const struct log_field *fields, size_t n)
{
    size_t len = log_format(line, LOG_LINE_MAX, true, LOG_LEVEL_INFO, "test", fields, n);
    line[len] = '\0';
    return line;
}

#define FORMAT(...)                                                                            \
    format((struct log_field[]){ __VA_ARGS__ },                                                \
           sizeof((struct log_field[]){ __VA_ARGS__ }) / sizeof(struct log_field))

START_TEST(fields_are_key_value_pairs)
{
    ck_assert_str_eq(FORMAT(LOG_TEXT("method", "GET"), LOG_INT("status", 200),
                            LOG_REAL("seconds", 0.25), LOG_TEXT("owner", NULL)),
                     "<6>level=info event=test method=GET status=200 seconds=0.25\n");
    ck_assert_str_eq(FORMAT(LOG_TEXT("path", "/a b"), LOG_TEXT("empty", "")),
                     "<6>level=info event=test path=\"/a b\" empty=\"\"\n");
}
END_TEST

START_TEST(nothing_in_a_value_can_forge_a_line)
{
    ck_assert_str_eq(FORMAT(LOG_TEXT("v", "a\nlevel=error \x1b[31m\"\\")),
                     "<6>level=info event=test v=\"a\\x0alevel=error \\x1b[31m\\\"\\\\\"\n");
    /* a lone byte, an overlong form, a surrogate, a C1 control; then good UTF-8 */
    ck_assert_str_eq(FORMAT(LOG_TEXT("v", "\xff\xc0\xaf\xed\xa0\x80\xc2\x9b")),
                     "<6>level=info event=test "
                     "v=\"\\xff\\xc0\\xaf\\xed\\xa0\\x80\\xc2\\x9b\"\n");
    ck_assert_str_eq(FORMAT(LOG_TEXT("v", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")),
                     "<6>level=info event=test v=\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"\n");
}
END_TEST

START_TEST(tokens_never_reach_the_log)
{
    ck_assert_str_eq(FORMAT(LOG_TEXT("h", "Bearer dpt_abcdefghijklmnopqrstuvwxyz0123456789-_ABC x")),
                     "<6>level=info event=test h=\"Bearer [token] x\"\n");
}
END_TEST

START_TEST(lines_and_values_are_bounded)
{
    static char big[100000];
    memset(big, '\x01', sizeof big - 1);
    const char *text = FORMAT(LOG_TEXT("v", big), LOG_TEXT("next", "here"));
    ck_assert_uint_lt(strlen(text), LOG_VALUE_MAX + 100);
    ck_assert_ptr_nonnull(strstr(text, "...\" next=here\n"));
    struct log_field many[200];
    for (size_t i = 0; i < 200; i++)
        many[i] = LOG_TEXT("key", "0123456789012345678901234567890123456789");
    text = format(many, 200);
    ck_assert_uint_le(strlen(text), LOG_LINE_MAX);
    ck_assert_int_eq(text[strlen(text) - 1], '\n');
}
END_TEST

START_TEST(levels_filter_and_have_names)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    struct log log;
    log_init(&log, ends[1], LOG_LEVEL_WARNING);
    log_info(&log, "dropped", LOG_INT("n", 1));
    log_warning(&log, "kept", LOG_INT("n", 2));
    close(ends[1]);
    char got[256] = "";
    ck_assert_int_gt(read(ends[0], got, sizeof got - 1), 0);
    close(ends[0]);
    ck_assert_int_eq(strncmp(got, "ts=", 3), 0);
    ck_assert_ptr_nonnull(strstr(got, "Z level=warning event=kept n=2\n"));
    ck_assert_ptr_null(strstr(got, "dropped"));
    ck_assert_int_eq(log_level_parse("debug"), LOG_LEVEL_DEBUG);
    ck_assert_int_eq(log_level_parse("loud"), -1);
    log_info(NULL, "nowhere", LOG_INT("n", 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tc = tcase_create("log");
    tcase_add_test(tc, fields_are_key_value_pairs);
    tcase_add_test(tc, nothing_in_a_value_can_forge_a_line);
    tcase_add_test(tc, tokens_never_reach_the_log);
    tcase_add_test(tc, lines_and_values_are_bounded);
    tcase_add_test(tc, levels_filter_and_have_names);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
