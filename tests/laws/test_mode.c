/* What every mode must obey: the same rows, norms and sums by every route, for any number of
 * threads and any cutting into tiles. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attrs_text.h"
#include "psg/dp.h"
#include "psg/plan.h"
#include "suite.h"

enum { N = 11 };

struct net {
    struct psg_program *p;
    psg_real *params;
    double x[N][48];
    int64_t label[N];
    struct psg_column column[2];
    struct psg_key key;
};

static psg_value add(struct psg_program *p, const char *op, const char *path, psg_value a,
                     psg_value b, const char *attrs, const struct psg_param_use *use)
{
    struct psg_error err = { 0 };
    struct psg_attrs *at = attrs_from_text(attrs);
    psg_value in[2] = { a, b }, out[8];
    int r = psg_program_add(p, op, path, in, b == PSG_NONE ? 1 : 2, at, use, use ? 1 : 0, out,
                            NULL, &err);
    ck_assert_msg(r == 0, "%s: %s", err.place, err.text);
    psg_attrs_free(at);
    return out[0];
}

static void net_finish(struct net *n, psg_value logits)
{
    struct psg_error err = { 0 };
    psg_value target;
    ck_assert_int_eq(psg_program_input(n->p, "y", PSG_I64, &(struct psg_shape){ 0 }, &target,
                                       NULL),
                     0);
    ck_assert_int_eq(psg_program_set_output(n->p, logits, NULL), 0);
    psg_value loss = add(n->p, "cross_entropy", "loss", logits, target, "", NULL);
    ck_assert_int_eq(psg_program_set_loss(n->p, loss, NULL), 0);
    ck_assert_msg(psg_program_check(n->p, &err) == 0, "%s: %s", err.place, err.text);
    psg_key_from_seed(42, &n->key);
    n->params = calloc((size_t)psg_program_param_size(n->p) + 1, sizeof *n->params);
    psg_program_init_params(n->p, &n->key, n->params);
    ck_assert_int_eq(psg_rng_fill_uniform(&n->key, PSG_RNG_USER, 0, 0, 0, N * 48, &n->x[0][0],
                                          NULL),
                     0);
    for (int i = 0; i < N; i++) {
        n->label[i] = i % 3;
        for (int k = 0; k < 48; k++)
            n->x[i][k] = 2 * n->x[i][k] - 1;
    }
    n->column[0] = (struct psg_column){ .type = PSG_COL_F64, .data = n->x,
                                        .stride = sizeof n->x[0] };
    n->column[1] = (struct psg_column){ .type = PSG_COL_I64, .data = n->label,
                                        .stride = sizeof n->label[0] };
}

static void net_free(struct net *n)
{
    psg_program_free(n->p);
    free(n->params);
}

/* Convolution, normalisation, pooling, a residual branch, dropout, a tied and a frozen layer. */
static void net_open(struct net *n, int kind)
{
    static const struct psg_param_use tie = { "weight", "a.weight" };
    psg_value x, v, w;
    memset(n, 0, sizeof *n);
    n->p = psg_program_new();
    struct psg_shape shape = kind == 0 ? PSG_SHAPE(48) : PSG_SHAPE(3, 4, 4);
    ck_assert_int_eq(psg_program_input(n->p, "x", PSG_REAL, &shape, &x, NULL), 0);
    if (kind == 0) {
        v = add(n->p, "linear", "in", x, PSG_NONE, "out_features=6", NULL);
        v = add(n->p, "tanh", "t", v, PSG_NONE, "", NULL);
        w = add(n->p, "linear", "a", v, PSG_NONE, "out_features=6", NULL);
        w = add(n->p, "relu", "r", w, PSG_NONE, "", NULL);
        w = add(n->p, "linear", "b", w, PSG_NONE, "out_features=6", &tie);
        v = add(n->p, "add", "sum", v, w, "", NULL);
        v = add(n->p, "dropout", "drop", v, PSG_NONE, "p=0.4", NULL);
        v = add(n->p, "linear", "out", v, PSG_NONE, "out_features=3", NULL);
        ck_assert_int_eq(psg_program_freeze(n->p, "in.bias", NULL), 0);
    } else {
        v = add(n->p, "conv2d", "c", x, PSG_NONE, "out_channels=4 kernel_size=3 padding=1", NULL);
        v = add(n->p, "group_norm", "g", v, PSG_NONE, "num_groups=2 num_channels=4", NULL);
        v = add(n->p, "relu", "r", v, PSG_NONE, "", NULL);
        v = add(n->p, "max_pool2d", "p", v, PSG_NONE, "kernel_size=2", NULL);
        v = add(n->p, "flatten", "f", v, PSG_NONE, "", NULL);
        v = add(n->p, "linear", "out", v, PSG_NONE, "out_features=3", NULL);
    }
    net_finish(n, v);
}

static struct psg_plan *plan(const struct net *n, struct psg_plan_options o)
{
    struct psg_plan *p = NULL;
    struct psg_error err = { 0 };
    ck_assert_msg(psg_plan_new(n->p, &o, &p, &err) == 0, "%s: %s", err.place, err.text);
    return p;
}

struct result {
    psg_real *rows, loss[N];
    double sq[N];
};

static struct result grads(struct net *n, struct psg_plan_options o, int64_t count)
{
    struct psg_plan *p = plan(n, o);
    struct result r = { .rows = calloc(
                            (size_t)(N * psg_program_trainable_size(n->p)) + 1,
                            sizeof(psg_real)) };
    struct psg_records records = { .n = count, .column = n->column, .key = &n->key, .step = 5 };
    struct psg_grad_out out = { .rows = r.rows, .sqnorm = r.sq, .loss = r.loss };
    struct psg_error err = { 0 };
    ck_assert_msg(psg_grad_sample(p, n->params, &records, &out, &err) == 0, "%s: %s", err.place,
                  err.text);
    psg_plan_free(p);
    return r;
}

/* Relative to the largest number of the reference: float rounding of sums of a few hundred. */
static void close_to(const psg_real *a, const psg_real *b, int64_t n)
{
    const double tolerance = sizeof(psg_real) == 4 ? 3e-6 : 1e-13;
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)b[i]));
    for (int64_t i = 0; i < n; i++)
        ck_assert_double_le(fabs((double)a[i] - (double)b[i]), tolerance * largest);
}

START_TEST(all_modes_give_the_rows_of_one_sample_at_a_time)
{
    struct net n;
    net_open(&n, _i % 2);
    int64_t size = N * psg_program_trainable_size(n.p);
    struct result ref = grads(&n, (struct psg_plan_options){ .mode = PSG_MODE_HOOKS, .tile = 1,
                                                             .backend = psg_backend_ref() }, N);
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct result got = grads(&n, (struct psg_plan_options){ .mode = (enum psg_mode)mode,
                                                                 .tile = 1 + 3 * (_i / 2),
                                                                 .n_threads = 2 }, N);
        close_to(got.rows, ref.rows, size);
        close_to(got.loss, ref.loss, N);
        for (int i = 0; i < N; i++)
            ck_assert_double_le(fabs(got.sq[i] - ref.sq[i]), 1e-5 * ref.sq[i]);
        free(got.rows);
    }
    free(ref.rows);
    net_free(&n);
}
END_TEST

static void half_clip(const void *arg, int64_t n, int64_t stride, int n_groups,
                      const double *sq, psg_real *weight)
{
    for (int g = 0; g < n_groups; g++)
        ck_assert_int_eq(psg_clip_factors(PSG_CLIP_FLAT, *(const double *)arg, n,
                                          sq + g * stride, weight + g * stride, NULL, NULL),
                         0);
}

START_TEST(the_sum_is_the_weighted_sum_of_rows_and_bits_do_not_depend_on_threads)
{
    struct net n;
    double bound = 0.7;
    net_open(&n, _i % 2);
    int64_t size = psg_program_trainable_size(n.p);
    psg_real *first = calloc((size_t)size, sizeof *first), *sum = calloc((size_t)size,
                                                                         sizeof *sum),
             *want = calloc((size_t)size, sizeof *want);
    struct result ref = grads(&n, (struct psg_plan_options){ .tile = 2 }, N);
    int64_t clipped = 0;
    for (int i = 0; i < N; i++) {
        double c = fmin(1, bound / (sqrt(ref.sq[i]) + 1e-6));
        clipped += c < 1;
        for (int64_t k = 0; k < size; k++)
            want[k] += (psg_real)(c * (double)ref.rows[i * size + k]);
    }
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        for (int threads = 1; threads <= 3; threads++) {
            struct psg_plan *p = plan(&n, (struct psg_plan_options){ .mode = (enum psg_mode)mode,
                                                                     .tile = 2, .n_lanes = 4,
                                                                     .n_threads = threads });
            struct psg_records records = { .n = N, .column = n.column, .key = &n.key, .step = 5 };
            struct psg_sum_options o = { .weight = half_clip, .weight_arg = &bound };
            struct psg_sum_stats stats;
            ck_assert_int_eq(psg_clipped_sum(p, n.params, &records, &o, sum, &stats, NULL), 0);
            close_to(sum, want, size);
            ck_assert_int_eq(stats.n, N);
            ck_assert_int_eq(stats.n_clipped, clipped);
            if (threads == 1)
                memcpy(first, sum, (size_t)size * sizeof *sum);
            ck_assert_mem_eq(first, sum, (size_t)size * sizeof *sum);
            psg_plan_free(p);
        }
    }
    free(first);
    free(sum);
    free(want);
    free(ref.rows);
    net_free(&n);
}
END_TEST

START_TEST(a_record_that_is_not_finite_contributes_zero_and_is_counted)
{
    struct net n;
    net_open(&n, _i % 2);
    int64_t size = psg_program_trainable_size(n.p);
    psg_real *with = calloc((size_t)size, sizeof *with), *without = calloc((size_t)size,
                                                                          sizeof *without);
    double bound = 1;
    struct psg_sum_options o = { .weight = half_clip, .weight_arg = &bound, .loss_bound = 2 };
    for (int i = 0; i < 48; i++)
        n.x[N - 1][i] = i % 2 ? NAN : INFINITY;
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_plan *p = plan(&n, (struct psg_plan_options){ .mode = (enum psg_mode)mode,
                                                                 .tile = 3, .n_lanes = 1 });
        struct psg_sum_stats a, b;
        struct psg_records records = { .n = N, .column = n.column, .key = &n.key };
        ck_assert_int_eq(psg_clipped_sum(p, n.params, &records, &o, with, &a, NULL), 0);
        records.n = N - 1;
        ck_assert_int_eq(psg_clipped_sum(p, n.params, &records, &o, without, &b, NULL), 0);
        ck_assert_int_eq(a.n_nonfinite, 1);
        ck_assert_int_eq(a.n_clipped, b.n_clipped + 1);
        ck_assert_int_eq(b.n_nonfinite, 0);
        ck_assert(isfinite(a.loss_sum) && isfinite(a.norm_sum));
        close_to(with, without, size);
        psg_plan_free(p);
    }
    free(with);
    free(without);
    net_free(&n);
}
END_TEST

START_TEST(an_empty_batch_is_a_batch)
{
    struct net n;
    net_open(&n, _i % 2);
    int64_t size = psg_program_trainable_size(n.p);
    psg_real *sum = calloc((size_t)size, sizeof *sum);
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_plan *p = plan(&n, (struct psg_plan_options){ .mode = (enum psg_mode)mode });
        struct psg_records records = { .n = 0, .column = n.column, .key = &n.key };
        struct psg_sum_options o = { 0 };
        struct psg_sum_stats stats = { .n = 7 };
        memset(sum, 0x55, (size_t)size * sizeof *sum);
        ck_assert_int_eq(psg_clipped_sum(p, n.params, &records, &o, sum, &stats, NULL), 0);
        ck_assert_int_eq(stats.n, 0);
        for (int64_t k = 0; k < size; k++)
            ck_assert(sum[k] == 0);
        struct psg_grad_out out = { .rows = sum };
        ck_assert_int_eq(psg_grad_sample(p, n.params, &records, &out, NULL), 0);
        psg_plan_free(p);
    }
    free(sum);
    net_free(&n);
}
END_TEST

START_TEST(groups_split_the_squared_norm)
{
    struct net n;
    net_open(&n, _i % 2);
    int n_params = psg_program_n_params(n.p);
    int *group = calloc((size_t)n_params, sizeof *group);
    for (int i = 0; i < n_params; i++)
        group[i] = i % 2;
    struct result flat = grads(&n, (struct psg_plan_options){ .tile = 2 }, N);
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_plan *p = plan(&n, (struct psg_plan_options){ .mode = (enum psg_mode)mode,
                                                                 .tile = 4, .group = group,
                                                                 .n_groups = 2 });
        double sq[N][2];
        struct psg_records records = { .n = N, .column = n.column, .key = &n.key, .step = 5 };
        struct psg_grad_out out = { .sqnorm = &sq[0][0] };
        ck_assert_int_eq(psg_grad_sample(p, n.params, &records, &out, NULL), 0);
        for (int i = 0; i < N; i++)
            ck_assert_double_le(fabs(sq[i][0] + sq[i][1] - flat.sq[i]), 1e-5 * flat.sq[i]);
        psg_plan_free(p);
    }
    free(group);
    free(flat.rows);
    net_free(&n);
}
END_TEST

START_TEST(an_id_out_of_range_names_input_and_record_and_changes_nothing)
{
    struct net n;
    net_open(&n, 0);
    n.label[8] = 3;
    n.label[9] = -1;
    struct psg_plan *p = plan(&n, (struct psg_plan_options){ .tile = 2, .n_threads = 2 });
    struct psg_records records = { .n = N, .column = n.column, .key = &n.key };
    struct psg_grad_out out = { 0 };
    struct psg_error err;
    ck_assert_int_eq(psg_grad_sample(p, n.params, &records, &out, &err), PSG_E_RANGE);
    ck_assert_str_eq(err.place, "y");
    ck_assert_ptr_nonnull(strstr(err.text, "record 8"));
    records.key = NULL;
    ck_assert_int_eq(psg_grad_sample(p, n.params, &records, &out, &err), PSG_E_INVALID);
    psg_plan_free(p);
    net_free(&n);
}
END_TEST

START_TEST(the_ordinary_gradient_is_the_sum_of_rows)
{
    struct net n;
    net_open(&n, _i % 2);
    int64_t size = psg_program_trainable_size(n.p);
    psg_real *sum = calloc((size_t)size, sizeof *sum), *want = calloc((size_t)size,
                                                                      sizeof *want);
    struct result ref = grads(&n, (struct psg_plan_options){ .tile = 2 }, N);
    for (int64_t i = 0; i < N * size; i++)
        want[i % size] += ref.rows[i];
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_plan *p = plan(&n, (struct psg_plan_options){ .mode = (enum psg_mode)mode,
                                                                 .tile = 4 });
        struct psg_records records = { .n = N, .column = n.column, .key = &n.key, .step = 5 };
        double loss = 0;
        ck_assert_int_eq(psg_plain_sum(p, n.params, &records, sum, &loss, NULL), 0);
        close_to(sum, want, size);
        psg_plan_free(p);
    }
    free(sum);
    free(want);
    free(ref.rows);
    net_free(&n);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mode");
    TCase *tc = tcase_create("mode");
    tcase_add_loop_test(tc, all_modes_give_the_rows_of_one_sample_at_a_time, 0, 6);
    tcase_add_loop_test(tc, the_sum_is_the_weighted_sum_of_rows_and_bits_do_not_depend_on_threads,
                        0, 2);
    tcase_add_loop_test(tc, a_record_that_is_not_finite_contributes_zero_and_is_counted, 0, 2);
    tcase_add_loop_test(tc, an_empty_batch_is_a_batch, 0, 2);
    tcase_add_loop_test(tc, groups_split_the_squared_norm, 0, 2);
    tcase_add_test(tc, an_id_out_of_range_names_input_and_record_and_changes_nothing);
    tcase_add_loop_test(tc, the_ordinary_gradient_is_the_sum_of_rows, 0, 2);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
