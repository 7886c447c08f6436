/* The k-th allocation fails, for every k until none is left: a clean error, nothing leaked
 * (the leak checker of the sanitizer build looks), nothing half decoded. */
#include <jansson.h>

#include "files.h"
#include "messages.h"
#include "pool.h"
#include "proto/problem.h"
#include "suite.h"

static char *examples[FILES_MAX];
static size_t n_examples;

/* what the allocator below needs to know: allocations until one fails, and how they fail */
static size_t left, live;
static bool stay_down, failed;

static void *failing_malloc(size_t size)
{
    if (left > 0)
        left--;
    if (left == 0 && (stay_down || !failed)) {
        failed = true;
        return NULL;
    }
    live++;
    return malloc(size);
}

static void counting_free(void *p)
{
    live -= p != NULL;
    free(p);
}

START_TEST(decode_and_encode_survive_every_failed_allocation)
{
    char dir[1024];
    proto_path(dir, "examples");
    const struct proto_message *m =
        proto_message_find(examples[_i], strcspn(examples[_i], "."));
    size_t len, failures = 0;
    char *text = file_read(dir, examples[_i], &len);
    json_set_alloc_funcs(failing_malloc, counting_free);
    for (int down = 0; down < 2; down++) {
        stay_down = down;
        for (size_t k = 1;; k++) {
            struct problem problem;
            void *value;
            left = k;
            live = 0;
            failed = false;
            int r = proto_decode(m, false, text, len, &value, &problem);
            ck_assert_msg(r == 0 || r == PROTO_E_NOMEM, "%zu: %d %s", k, r, problem.detail);
            char *encoded = r == 0 ? proto_encode(m, value, NULL) : NULL;
            if (r) {
                ck_assert_int_eq(problem.code, PROBLEM_OUT_OF_MEMORY);
                ck_assert_int_eq(problem.status, 503);
                ck_assert_ptr_null(value);
            } else {
                pool_free_root(value);
            }
            ck_assert_msg((encoded == NULL) == failed, "allocation %zu is not noticed", k);
            failures += failed;
            if (encoded)
                counting_free(encoded);
            ck_assert_msg(live == 0, "allocation %zu leaks %zu blocks", k, live);
            if (!failed)
                break;
            ck_assert_uint_lt(k, 100000);
        }
    }
    ck_assert_uint_gt(failures, 10);
    json_set_alloc_funcs(malloc, free);
    free(text);
}
END_TEST

START_TEST(problems_are_encoded_or_not_at_all)
{
    struct problem p, back;
    problem_init(&p);
    problem_invalid(&p, "/x", ITEM_UNKNOWN_OP, "unknown op");
    json_set_alloc_funcs(failing_malloc, counting_free);
    stay_down = false;
    for (size_t k = 1;; k++) {
        left = k;
        live = 0;
        failed = false;
        size_t len;
        char *text = problem_encode(&p, &len);
        ck_assert(text || failed);
        if (text) {
            int r = problem_decode(&back, text, len);
            ck_assert_int_eq(r, failed ? PROTO_E_NOMEM : 0);
            counting_free(text);
        }
        ck_assert_uint_eq(live, 0);
        if (!failed)
            break;
    }
    json_set_alloc_funcs(malloc, free);
}
END_TEST

int main(void)
{
    char dir[1024];
    proto_path(dir, "examples");
    n_examples = file_list(dir, examples);
    Suite *suite = suite_create("proto_nomem");
    TCase *tc = tcase_create("nomem");
    tcase_add_loop_test(tc, decode_and_encode_survive_every_failed_allocation, 0,
                        (int)n_examples);
    tcase_add_test(tc, problems_are_encoded_or_not_at_all);
    suite_add_tcase(suite, tc);
    int r = suite_run(suite);
    for (size_t i = 0; i < n_examples; i++)
        free(examples[i]);
    return r;
}
