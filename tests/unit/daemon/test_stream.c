#include <string.h>

#include "fault.h"
#include "stream/stream.h"
#include "suite.h"
#include "tmpdir.h"

static struct store *store;
static struct stream *stream;
static struct problem p;

static void setup(void)
{
    char path[128], text[256];
    snprintf(path, sizeof path, "%s/state.db", tmpdir_new());
    ck_assert_int_eq(store_open(&store, fault_env(), path, text, sizeof text), 0);
    stream = stream_new(store);
    ck_assert_ptr_nonnull(stream);
}

static void teardown(void)
{
    fault_arm(FAULT_NONE, 0, 0);
    stream = stream_free(stream);
    store = store_close(store);
}

static void append(const char *job, enum event_type type)
{
    struct event event;
    event_init(&event, type);
    if (type == EVENT_END)
        event.end = (struct event_end){ JOB_STATUS_SUCCEEDED, JOB_REASON_OK };
    if (type == EVENT_STEP)
        event.step.step = 1, event.step.of = 2;
    ck_assert_int_eq(stream_append(stream, job, &event, &p), 0);
}

struct seen {
    uint64_t last;
    int n, stop_at;
    char types[64];
};

static bool see(void *arg, const struct stream_event *event)
{
    struct seen *seen = arg;
    if (seen->n == seen->stop_at)
        return false;
    ck_assert_uint_eq(event->seq, seen->last + 1);
    ck_assert_uint_eq(strlen(event->data), event->size);
    char id[32];
    snprintf(id, sizeof id, "\"id\":%d", (int)event->seq);
    ck_assert_msg(strstr(event->data, id) != NULL, "%s", event->data);
    seen->last = event->seq;
    seen->types[seen->n++] = event->type[0];
    return true;
}

START_TEST(numbers_have_no_gaps_and_reads_go_on_from_a_cursor)
{
    for (int i = 0; i < 5; i++) {
        append("job_a", EVENT_STEP);
        append("job_b", EVENT_STEP);
    }
    append("job_a", EVENT_END);
    struct seen none = { .stop_at = 99 };
    ck_assert_int_eq(stream_read(stream, "job_a", 0, 99, see, &none), 0);
    ck_assert_int_eq(store_commit(store), 0);
    struct seen all = { .stop_at = 99 };
    ck_assert_int_eq(stream_read(stream, "job_a", 0, 99, see, &all), 6);
    ck_assert_str_eq(all.types, "ssssse");
    struct seen some = { .last = 2, .stop_at = 99 };
    ck_assert_int_eq(stream_read(stream, "job_a", 2, 3, see, &some), 3);
    struct seen stops = { .stop_at = 2 };
    ck_assert_int_eq(stream_read(stream, "job_a", 0, 99, see, &stops), 2);
    ck_assert_int_eq(stream_read(stream, "nobody", 0, 99, see, &none), 0);
    ck_assert_int_eq(stream_read(stream, "job_a", UINT64_MAX, 99, see, &none), 0);
    uint64_t last;
    bool ended;
    ck_assert_int_eq(stream_last(stream, "job_a", &last, &ended), 0);
    ck_assert(last == 6 && ended);
    ck_assert_int_eq(stream_last(stream, "job_b", &last, &ended), 0);
    ck_assert(last == 5 && !ended);
    ck_assert_int_eq(stream_last(stream, "nobody", &last, &ended), 0);
    ck_assert(last == 0 && !ended);
}
END_TEST

START_TEST(a_change_that_is_undone_leaves_no_gap)
{
    append("j", EVENT_STEP);
    ck_assert_int_eq(store_begin(store, &p), 0);
    append("j", EVENT_STEP);
    ck_assert_int_eq(store_end(store, 5, &p), 5);
    append("j", EVENT_STEP);
    ck_assert_int_eq(store_commit(store), 0);
    struct seen all = { .stop_at = 99 };
    ck_assert_int_eq(stream_read(stream, "j", 0, 99, see, &all), 2);
}
END_TEST

struct listener {
    struct stream_sub *sub, *victim;
    int n;
    bool leaves;
};

static void heard(void *arg)
{
    struct listener *l = arg;
    l->n++;
    if (l->victim) {
        stream_unsubscribe(l->victim);
        l->victim = NULL;
    }
    if (l->leaves) {
        stream_unsubscribe(l->sub);
        l->sub = NULL;
    }
}

START_TEST(subscribers_wake_once_per_commit_of_their_job)
{
    struct listener a = { 0 }, b = { 0 };
    a.sub = stream_subscribe(stream, "a", heard, &a);
    b.sub = stream_subscribe(stream, "b", heard, &b);
    append("a", EVENT_STEP);
    append("a", EVENT_STEP);
    ck_assert_int_eq(a.n, 0);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(a.n, 1);
    ck_assert_int_eq(b.n, 0);
    append("a", EVENT_STEP);
    append("b", EVENT_STEP);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(a.n, 2);
    ck_assert_int_eq(b.n, 1);
    stream_unsubscribe(a.sub);
    stream_unsubscribe(b.sub);
    stream_unsubscribe(NULL);
    uint64_t n_subs, n_events;
    stream_stats(stream, &n_subs, &n_events);
    ck_assert_uint_eq(n_subs, 0);
    ck_assert_uint_eq(n_events, 4);
}
END_TEST

START_TEST(leaving_while_being_woken_is_safe)
{
    struct listener first = { .leaves = true }, second = { 0 }, third = { 0 };
    /* the newest is woken first */
    third.sub = stream_subscribe(stream, "j", heard, &third);
    second.sub = stream_subscribe(stream, "j", heard, &second);
    first.sub = stream_subscribe(stream, "j", heard, &first);
    first.victim = second.sub;
    append("j", EVENT_STEP);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(first.n, 1);
    ck_assert_int_eq(second.n, 0);
    ck_assert_int_eq(third.n, 1);
    third.leaves = true;
    append("j", EVENT_STEP);
    ck_assert_int_eq(store_commit(store), 0);
    append("j", EVENT_STEP);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(third.n, 2);
}
END_TEST

START_TEST(leaving_between_event_and_commit_is_safe)
{
    struct listener l = { 0 };
    l.sub = stream_subscribe(stream, "j", heard, &l);
    append("j", EVENT_STEP);
    stream_unsubscribe(l.sub);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(l.n, 0);
}
END_TEST

START_TEST(nobody_is_woken_by_a_batch_that_did_not_commit)
{
    struct listener l = { 0 };
    l.sub = stream_subscribe(stream, "j", heard, &l);
    append("j", EVENT_STEP);
    fault_arm(FAULT_FULL, 1, 1);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(l.n, 0);
    fault_arm(FAULT_NONE, 0, 0);
    append("j", EVENT_STEP);
    ck_assert_int_eq(store_commit(store), 0);
    ck_assert_int_eq(l.n, 1);
    struct seen all = { .stop_at = 99 };
    ck_assert_int_eq(stream_read(stream, "j", 0, 99, see, &all), 1);
    append("j", EVENT_STEP);
    fault_arm(FAULT_FROM, 1, 1);
    ck_assert_int_eq(store_commit(store), ERROR_STORE);
    ck_assert_int_eq(l.n, 1);
    stream_unsubscribe(l.sub);
}
END_TEST

START_TEST(many_jobs_and_subscribers)
{
    enum { N = 3000 };
    static struct listener l[N];
    char job[32];
    for (int i = 0; i < N; i++) {
        snprintf(job, sizeof job, "job_%d", i % 1500);
        l[i].sub = stream_subscribe(stream, job, heard, &l[i]);
        ck_assert_ptr_nonnull(l[i].sub);
    }
    for (int i = 0; i < 1500; i += 3) {
        snprintf(job, sizeof job, "job_%d", i);
        append(job, EVENT_STEP);
    }
    ck_assert_int_eq(store_commit(store), 0);
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(l[i].n, (i % 1500) % 3 == 0);
        stream_unsubscribe(l[i].sub);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream");
    TCase *tc = tcase_create("stream");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, numbers_have_no_gaps_and_reads_go_on_from_a_cursor);
    tcase_add_test(tc, a_change_that_is_undone_leaves_no_gap);
    tcase_add_test(tc, subscribers_wake_once_per_commit_of_their_job);
    tcase_add_test(tc, leaving_while_being_woken_is_safe);
    tcase_add_test(tc, leaving_between_event_and_commit_is_safe);
    tcase_add_test(tc, nobody_is_woken_by_a_batch_that_did_not_commit);
    tcase_add_test(tc, many_jobs_and_subscribers);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
