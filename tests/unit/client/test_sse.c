/* The event-stream parser: fields, line ends, pieces of any size, limits. */
#include <stdio.h>
#include <string.h>

#include "sse.h"
#include "suite.h"

struct log {
    char text[4096];
    size_t len;
    int stop_after;
};

static int note(const char *event, const char *id, const char *data, size_t len, void *user)
{
    struct log *log = user;
    ck_assert_uint_eq(strlen(data), len);
    log->len += (size_t)snprintf(log->text + log->len, sizeof log->text - log->len,
                                 "[%s|%s|%s]", event, id, data);
    return log->stop_after > 0 && --log->stop_after == 0;
}

/* fed in pieces of every size, the same comes out */
static void expect(const char *stream, const char *events)
{
    size_t len = strlen(stream);
    for (size_t piece = 1; piece <= len; piece++) {
        struct sse_parser parser;
        struct log log = { .len = 0 };
        sse_init(&parser);
        for (size_t at = 0; at < len; at += piece) {
            size_t n = len - at < piece ? len - at : piece;
            ck_assert_int_eq(sse_feed(&parser, stream + at, n, note, &log), 0);
        }
        ck_assert_str_eq(log.text, events);
        sse_free(&parser);
    }
}

START_TEST(fields_and_line_ends)
{
    expect("id: 7\nevent: step\ndata: {\"a\":1}\n\n", "[step|7|{\"a\":1}]");
    expect("data: x\r\n\r\ndata:y\r\rdata:  z\n\n",
           "[message||x][message||y][message|| z]");
    expect(":comment\n\ndata: a\ndata: b\ndata\n\n", "[message||a\nb\n]");
    expect("\xef\xbb\xbf"
           "data: bom\n\n",
           "[message||bom]");
    expect("id: 1\ndata: a\n\ndata: b\n\n", "[message|1|a][message|1|b]");
    expect("event: lost\n\ndata: kept\n\n", "[message||kept]");
    expect("data: not finished", "");
    expect("unknown: x\n: \ndata: a\n\n", "[message||a]");
}
END_TEST

START_TEST(retry_takes_digits_only)
{
    struct sse_parser parser;
    struct log log = { .len = 0 };
    sse_init(&parser);
    static const char stream[] = "retry: x\nretry: -5\nretry: 99999999999\nretry:\n";
    ck_assert_int_eq(sse_feed(&parser, stream, sizeof stream - 1, note, &log), 0);
    ck_assert_int_eq(parser.retry_ms, -1);
    ck_assert_int_eq(sse_feed(&parser, "retry: 3000\n", 12, note, &log), 0);
    ck_assert_int_eq(parser.retry_ms, 3000);
    sse_free(&parser);
}
END_TEST

START_TEST(callback_stops_the_feed)
{
    struct sse_parser parser;
    struct log log = { .stop_after = 1 };
    sse_init(&parser);
    ck_assert_int_eq(sse_feed(&parser, "data: a\n\ndata: b\n\n", 18, note, &log), 1);
    ck_assert_str_eq(log.text, "[message||a]");
    sse_free(&parser);
}
END_TEST

START_TEST(memory_is_bounded)
{
    struct sse_parser parser;
    struct log log = { .len = 0 };
    static char chunk[65536];
    memset(chunk, 'x', sizeof chunk);
    int r = 0;
    sse_init(&parser);
    for (size_t i = 0; i < 64 && r == 0; i++)
        r = sse_feed(&parser, chunk, sizeof chunk, note, &log);
    ck_assert_int_eq(r, SSE_E_LIMIT);
    sse_free(&parser);
    sse_init(&parser);
    memcpy(chunk, "data:", 5);
    chunk[sizeof chunk - 1] = '\n';
    r = 0;
    for (size_t i = 0; i < 64 && r == 0; i++)
        r = sse_feed(&parser, chunk, sizeof chunk, note, &log);
    ck_assert_int_eq(r, SSE_E_LIMIT);
    sse_free(&parser);
    ck_assert_str_eq(log.text, "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sse");
    TCase *tc = tcase_create("sse");
    tcase_add_test(tc, fields_and_line_ends);
    tcase_add_test(tc, retry_takes_digits_only);
    tcase_add_test(tc, callback_stops_the_feed);
    tcase_add_test(tc, memory_is_bounded);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
