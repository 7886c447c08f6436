/* Every example decodes, encodes and decodes to the same thing; every malformed one is
 * refused with exactly the places and codes that stand beside it. */
#include <jansson.h>
#include <math.h>

#include "files.h"
#include "messages.h"
#include "pool.h"
#include "proto/text.h"
#include "suite.h"

static char *examples[FILES_MAX], *bad[FILES_MAX];
static size_t n_examples, n_bad;

static const struct proto_message *message_of(const char *file)
{
    const struct proto_message *message = proto_message_find(file, strcspn(file, "."));
    ck_assert_msg(message != NULL, "no message is named like %s", file);
    return message;
}

static void *decode_or_fail(const struct proto_message *m, const char *text, size_t len)
{
    struct problem problem;
    void *value;
    int r = proto_decode(m, false, text, len, &value, &problem);
    ck_assert_msg(r == 0, "%s %s: %s", problem.errors[0].pointer, problem.errors[0].code,
                  problem.errors[0].message);
    ck_assert_int_eq(problem.n_errors, 0);
    return value;
}

/* "90s" and 90 are the same duration */
static bool same_scalar(const json_t *a, const json_t *b)
{
    double seconds;
    int64_t t, u;
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    if (json_is_number(a) && json_is_string(b))
        return proto_duration_parse(json_string_value(b), &seconds) == 0 &&
               seconds == json_number_value(a);
    if (json_is_string(a) && json_is_string(b)) {
        double other;
        if (proto_duration_parse(json_string_value(a), &seconds) == 0 &&
            proto_duration_parse(json_string_value(b), &other) == 0)
            return seconds == other;
        if (proto_time_parse(json_string_value(a), &t) == 0 &&
            proto_time_parse(json_string_value(b), &u) == 0)
            return t == u;
    }
    return json_equal(a, b);
}

/* everything that the example says is in what was encoded; the rest of it are defaults */
static bool contains(const json_t *all, const json_t *part, const char **where)
{
    const char *name;
    json_t *value;
    if (json_is_object(part) && json_is_object(all)) {
        json_object_foreach((json_t *)(uintptr_t)part, name, value)
        {
            const json_t *other = json_object_get(all, name);
            if (!other && json_is_null(value))
                continue;
            if (!other || !contains(other, value, where)) {
                *where = name;
                return false;
            }
        }
        return true;
    }
    if (json_is_array(part) && json_is_array(all)) {
        if (json_array_size(part) != json_array_size(all))
            return false;
        for (size_t i = 0; i < json_array_size(part); i++)
            if (!contains(json_array_get(all, i), json_array_get(part, i), where))
                return false;
        return true;
    }
    /* a scalar that stands for an object or list with one meaning */
    if (json_is_object(part) && json_is_string(all))
        return same_scalar(json_object_get(part, "type"), all);
    return same_scalar(part, all);
}

START_TEST(example_round_trip)
{
    char dir[1024];
    proto_path(dir, "examples");
    size_t len, len1, len2;
    const struct proto_message *m = message_of(examples[_i]);
    char *text = file_read(dir, examples[_i], &len);
    void *value = decode_or_fail(m, text, len);
    char *once = proto_encode(m, value, &len1);
    ck_assert_ptr_nonnull(once);
    ck_assert_ptr_null(strchr(once, '\n'));
    void *again = decode_or_fail(m, once, len1);
    char *twice = proto_encode(m, again, &len2);
    ck_assert_str_eq(once, twice);
    json_t *given = json_loads(text, 0, NULL), *got = json_loads(once, 0, NULL);
    const char *where = "";
    ck_assert_ptr_nonnull(given);
    ck_assert_ptr_nonnull(got);
    ck_assert_msg(contains(got, given, &where), "%s lost %s: %s", examples[_i], where,
                  once);
    json_decref(given);
    json_decref(got);
    pool_free_root(value);
    pool_free_root(again);
    free(once);
    free(twice);
    free(text);
}
END_TEST

/* next "pointer code" of this file in EXPECTED; false at the end */
static bool next_expected(const char **at, const char *file, char *pointer, char *code)
{
    char name[256];
    for (; **at; *at += strcspn(*at, "\n"), *at += **at == '\n') {
        if (sscanf(*at, "%255s %255s %31s", name, pointer, code) != 3 ||
            strcmp(name, file) != 0)
            continue;
        if (strcmp(pointer, "\"\"") == 0)
            pointer[0] = '\0';
        *at += strcspn(*at, "\n");
        *at += **at == '\n';
        return true;
    }
    return false;
}

START_TEST(malformed_is_refused_with_its_places)
{
    char dir[1024], pointer[256], code[32];
    proto_path(dir, "examples/bad");
    size_t len, table_len, n = 0;
    char *text = file_read(dir, bad[_i], &len);
    char *table = file_read(dir, "EXPECTED", &table_len);
    struct problem problem;
    void *value;
    int r = proto_decode(message_of(bad[_i]), false, text, len, &value, &problem);
    ck_assert_int_eq(r, PROTO_E_INVALID);
    ck_assert_ptr_null(value);
    const char *at = table;
    for (; next_expected(&at, bad[_i], pointer, code); n++) {
        ck_assert_msg(n < problem.n_errors, "%s: %s %s is not reported", bad[_i], pointer,
                      code);
        ck_assert_msg(strcmp(problem.errors[n].pointer, pointer) == 0 &&
                          strcmp(problem.errors[n].code, code) == 0,
                      "%s: expected %s %s, got %s %s (%s)", bad[_i], pointer, code,
                      problem.errors[n].pointer, problem.errors[n].code,
                      problem.errors[n].message);
        ck_assert_msg(problem.errors[n].message[0], "%s has no message", bad[_i]);
    }
    ck_assert_msg(n > 0, "%s has no line in EXPECTED", bad[_i]);
    ck_assert_msg(n == problem.n_errors, "%s: also %s %s (%s)", bad[_i],
                  problem.errors[n].pointer, problem.errors[n].code,
                  problem.errors[n].message);
    ck_assert(problem.status == 400 || problem.status == 422);
    free(text);
    free(table);
}
END_TEST

START_TEST(every_message_has_an_example)
{
    for (size_t m = 0; proto_messages[m]; m++) {
        size_t found = 0;
        for (size_t i = 0; i < n_examples; i++)
            found += message_of(examples[i]) == proto_messages[m];
        ck_assert_msg(found > 0, "no example of %s", proto_messages[m]->name);
    }
    ck_assert_uint_gt(n_bad, 100);
}
END_TEST

/* any prefix and any single changed byte is an error or another message, never a crash */
START_TEST(prefixes_and_flips_are_survived)
{
    char dir[1024];
    proto_path(dir, "examples");
    const struct proto_message *m = message_of(examples[_i]);
    size_t len;
    char *text = file_read(dir, examples[_i], &len);
    for (size_t i = 0; i < len; i++) {
        struct problem problem;
        void *value;
        char *prefix = malloc(i ? i : 1);
        memcpy(prefix, text, i);
        if (i + 2 < len) /* the last bytes are "}\n" */
            ck_assert_int_eq(proto_decode(m, false, prefix, i, &value, &problem),
                             PROTO_E_INVALID);
        free(prefix);
        for (unsigned bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ (1 << bit));
            if (proto_decode(m, bit & 1, text, len, &value, &problem) == 0) {
                char *encoded = proto_encode(m, value, NULL);
                ck_assert_ptr_nonnull(encoded);
                free(encoded);
                pool_free_root(value);
            }
            text[i] = (char)(text[i] ^ (1 << bit));
        }
    }
    free(text);
}
END_TEST

int main(void)
{
    char dir[1024];
    proto_path(dir, "examples");
    n_examples = file_list(dir, examples);
    proto_path(dir, "examples/bad");
    n_bad = file_list(dir, bad);
    Suite *suite = suite_create("proto_messages");
    TCase *tc = tcase_create("messages");
    tcase_add_loop_test(tc, example_round_trip, 0, (int)n_examples);
    tcase_add_loop_test(tc, malformed_is_refused_with_its_places, 0, (int)n_bad);
    tcase_add_loop_test(tc, prefixes_and_flips_are_survived, 0, (int)n_examples);
    tcase_add_test(tc, every_message_has_an_example);
    suite_add_tcase(suite, tc);
    int r = suite_run(suite);
    for (size_t i = 0; i < n_examples; i++)
        free(examples[i]);
    for (size_t i = 0; i < n_bad; i++)
        free(bad[i]);
    return r;
}
