#include <stdatomic.h>

#include "psg/team.h"
#include "suite.h"

struct count {
    atomic_int calls[8];
    int sum; /* written by thread 0 only */
};

static void count_call(void *arg, int thread, int n_threads)
{
    struct count *c = arg;
    ck_assert_int_lt(thread, n_threads);
    atomic_fetch_add(&c->calls[thread], 1);
    if (thread == 0)
        c->sum++;
}

START_TEST(every_thread_is_called_once_a_run)
{
    for (int n = 1; n <= 5; n++) {
        struct psg_team *team = NULL;
        struct count c = { 0 };
        ck_assert_int_eq(psg_team_new(n, &team, NULL), 0);
        ck_assert_int_eq(psg_team_size(team), n);
        for (int i = 0; i < 2000; i++)
            psg_team_run(team, count_call, &c);
        for (int t = 0; t < 8; t++)
            ck_assert_int_eq(atomic_load(&c.calls[t]), t < n ? 2000 : 0);
        ck_assert_int_eq(c.sum, 2000);
        ck_assert_ptr_null(psg_team_free(team));
    }
}
END_TEST

struct pieces {
    atomic_int next, done[64];
    atomic_int calls[8];
};

static void take_pieces(void *arg, int thread, int n_threads)
{
    struct pieces *p = arg;
    ck_assert_int_lt(thread, n_threads);
    atomic_fetch_add(&p->calls[thread], 1);
    for (int i; (i = atomic_fetch_add(&p->next, 1)) < 64;)
        atomic_fetch_add(&p->done[i], 1);
}

START_TEST(shared_work_is_done_once_by_whoever_comes)
{
    for (int n = 1; n <= 5; n++) {
        struct psg_team *team = NULL;
        ck_assert_int_eq(psg_team_new(n, &team, NULL), 0);
        for (int i = 0; i < 100; i++) {
            struct pieces p = { 0 }; /* gone at the next turn: nobody may come late */
            struct count c = { 0 };
            psg_team_share(team, take_pieces, &p);
            for (int k = 0; k < 64; k++)
                ck_assert_int_eq(atomic_load(&p.done[k]), 1);
            ck_assert_int_eq(atomic_load(&p.calls[0]), 1);
            for (int t = 1; t < 8; t++)
                ck_assert_int_le(atomic_load(&p.calls[t]), t < n);
            psg_team_run(team, count_call, &c); /* and the others still come to a run */
            for (int t = 0; t < 8; t++)
                ck_assert_int_eq(atomic_load(&c.calls[t]), t < n);
        }
        psg_team_free(team);
    }
}
END_TEST

START_TEST(a_team_that_never_runs_ends)
{
    struct psg_team *team = NULL;
    struct psg_error err;
    ck_assert_int_eq(psg_team_new(3, &team, NULL), 0);
    ck_assert_ptr_null(psg_team_free(team));
    ck_assert_ptr_null(psg_team_free(NULL));
    ck_assert_int_eq(psg_team_new(0, &team, &err), PSG_E_INVALID);
    ck_assert_str_eq(err.place, "n_threads");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("team");
    TCase *tc = tcase_create("team");
    tcase_add_test(tc, every_thread_is_called_once_a_run);
    tcase_add_test(tc, shared_work_is_done_once_by_whoever_comes);
    tcase_add_test(tc, a_team_that_never_runs_ends);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
