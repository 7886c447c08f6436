/* Whole steps on a GPU: every net of the table, in every mode and precision, gives what ref
 * gives. Runs on the plugin that DPSGD_CUDA_PLUGIN names: a real one, or the emulated one, whose
 * memory the host cannot touch. Without a GPU it says SKIP with the reason. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mode/mode.h"
#include "net_data.h"
#include "psg/device.h"
#include "suite.h"

enum { OUT_MAX = NET_N * (1 + NET_CLASSES) };

/* everything that a plan computes */
struct results {
    struct net_data d;
    psg_real *plain, eval[OUT_MAX];
    double loss;
};

static const struct psg_backend *gpu(void)
{
    const struct psg_backend *be = NULL;
    struct psg_error err = { 0 };
    ck_assert_msg(psg_cuda_open(NULL, 0, &be, &err) == 0, "%s", err.text);
    ck_assert(be->device_memory);
    return be;
}

static void results_open(struct results *r, const struct net_text *net,
                         struct psg_plan_options o)
{
    struct psg_error err = { 0 };
    net_data_open(&r->d, net, NULL);
    r->plain = calloc((size_t)psg_program_trainable_size(r->d.p) + 1, sizeof *r->plain);
    ck_assert_ptr_nonnull(r->plain);
    memset(r->eval, 0, sizeof r->eval);
    struct psg_plan *plan = net_data_plan(&r->d, o);
    int status = psg_plain_sum(plan, r->d.params, &r->d.records, r->plain, &r->loss, &err);
    if (status == 0)
        status = psg_evaluate(plan, r->d.params, &r->d.records, r->eval, r->eval + NET_N, &err);
    ck_assert_msg(status == 0, "%s: %s", err.place, err.text);
    net_data_run(&r->d, plan);
    psg_plan_free(plan);
}

static void results_close(struct results *r)
{
    net_data_close(&r->d);
    free(r->plain);
}

/* Errors are held to the largest number of the vector: sums of terms of both signs. */
static void close_to(const struct net_text *net, const char *what, int64_t n,
                     const psg_real *got, const psg_real *want, double tolerance)
{
    double top = 1e-3;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)want[i]));
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got[i] - (double)want[i]) <= tolerance * top,
                      "%s, %s[%lld]: %.9g, ref %.9g", net->layers[0], what, (long long)i,
                      (double)got[i], (double)want[i]);
}

static void compare(const struct net_text *net, const struct results *a,
                    const struct results *b, double tolerance)
{
    int64_t size = psg_program_trainable_size(a->d.p);
    close_to(net, "sum", size, a->d.sum, b->d.sum, tolerance);
    close_to(net, "rows", NET_N * size, a->d.rows, b->d.rows, tolerance);
    close_to(net, "loss", NET_N, a->d.loss, b->d.loss, tolerance);
    close_to(net, "plain", size, a->plain, b->plain, tolerance);
    close_to(net, "evaluate", OUT_MAX, a->eval, b->eval, tolerance);
    ck_assert_double_le(fabs(a->loss - b->loss), tolerance * NET_N);
    for (int i = 0; i < NET_N; i++)
        ck_assert_msg(fabs(a->d.sq[i] - b->d.sq[i]) <= 4 * tolerance * (b->d.sq[i] + 1e-3),
                      "%s: squared norm %g, ref %g", net->layers[0], a->d.sq[i], b->d.sq[i]);
}

START_TEST(plans_equal_ref)
{
    const struct psg_backend *be = gpu();
    for (int i = 0; net_at(i); i++) {
        struct results a, b;
        /* tiles of 3, 3 and 1 samples in lanes of both kinds */
        struct psg_plan_options o = { .mode = (enum psg_mode)_i, .tile = 3, .n_lanes = 2,
                                      .n_threads = 2, .backend = be };
        results_open(&a, net_at(i), o);
        o.backend = psg_backend_ref();
        results_open(&b, net_at(i), o);
        compare(net_at(i), &a, &b, 1e-4);
        results_close(&a);
        results_close(&b);
    }
}
END_TEST

/* bf16 activations: rounding may fall to the other side where float sums differ */
START_TEST(bf16_plans_are_near_ref)
{
    const struct psg_backend *be = gpu();
    for (int i = 0; net_at(i); i++) {
        struct results a, b;
        struct psg_plan_options o = { .mode = (enum psg_mode)_i, .tile = 4, .backend = be,
                                      .precision = PSG_PRECISION_BF16 };
        results_open(&a, net_at(i), o);
        o.backend = psg_backend_ref();
        results_open(&b, net_at(i), o);
        compare(net_at(i), &a, &b, 0.05);
        results_close(&a);
        results_close(&b);
    }
}
END_TEST

START_TEST(runs_are_bit_identical)
{
    const struct psg_backend *be = gpu();
    for (int i = 0; net_at(i); i++) {
        struct results a, b;
        struct psg_plan_options o = { .mode = (enum psg_mode)_i, .tile = 4, .backend = be };
        results_open(&a, net_at(i), o);
        results_open(&b, net_at(i), o);
        size_t size = (size_t)psg_program_trainable_size(a.d.p) * sizeof(psg_real);
        ck_assert_mem_eq(a.d.sum, b.d.sum, size);
        ck_assert_mem_eq(a.d.rows, b.d.rows, NET_N * size);
        ck_assert_mem_eq(a.plain, b.plain, size);
        results_close(&a);
        results_close(&b);
    }
}
END_TEST

int main(void)
{
    struct psg_devices devices;
    psg_cuda_probe(NULL, &devices);
    if (devices.n == 0) {
        printf("1..0 # SKIP %s\n", devices.why);
        return EXIT_SUCCESS;
    }
    Suite *suite = suite_create("cuda_plans");
    TCase *tc = tcase_create("plans");
    tcase_add_loop_test(tc, plans_equal_ref, 0, PSG_MODE_COUNT);
    tcase_add_loop_test(tc, bf16_plans_are_near_ref, 0, PSG_MODE_COUNT);
    tcase_add_loop_test(tc, runs_are_bit_identical, 0, PSG_MODE_COUNT);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
