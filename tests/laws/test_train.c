/* What a DP-SGD run must obey: bounded contributions, the stated noise, exact resume. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attrs_text.h"
#include "psg/train.h"
#include "suite.h"

enum { RECORDS = 40, FEATURES = 5, CLASSES = 3 };

struct problem {
    struct psg_program *p;
    float x[RECORDS][FEATURES];
    int64_t label[RECORDS];
    struct psg_column column[2];
    struct psg_key key;
};

static void problem_open(struct problem *q)
{
    psg_value v[2], loss;
    memset(q, 0, sizeof *q);
    q->p = psg_program_new();
    struct psg_attrs *a = attrs_from_text("out_features=4"), *b = attrs_from_text("out_features=3");
    ck_assert_int_eq(psg_program_input(q->p, "x", PSG_REAL, &PSG_SHAPE(FEATURES), v, NULL), 0);
    ck_assert_int_eq(psg_program_add(q->p, "linear", "0", v, 1, a, NULL, 0, v, NULL, NULL), 0);
    ck_assert_int_eq(psg_program_add(q->p, "tanh", "1", v, 1, NULL, NULL, 0, v, NULL, NULL), 0);
    ck_assert_int_eq(psg_program_add(q->p, "linear", "2", v, 1, b, NULL, 0, v, NULL, NULL), 0);
    ck_assert_int_eq(psg_program_input(q->p, "y", PSG_I64, &(struct psg_shape){ 0 }, &v[1], NULL),
                     0);
    ck_assert_int_eq(psg_program_add(q->p, "cross_entropy", "loss", v, 2, NULL, NULL, 0, &loss,
                                     NULL, NULL),
                     0);
    ck_assert_int_eq(psg_program_set_loss(q->p, loss, NULL), 0);
    ck_assert_int_eq(psg_program_check(q->p, NULL), 0);
    psg_key_from_seed(9, &q->key);
    ck_assert_int_eq(psg_normal_fill(&q->key, PSG_RNG_NOISE, 77, 0, 0, RECORDS * FEATURES,
                                     &q->x[0][0], NULL),
                     0);
    for (int i = 0; i < RECORDS; i++)
        q->label[i] = i % CLASSES;
    q->column[0] = (struct psg_column){ .type = PSG_COL_F32, .data = q->x,
                                        .stride = sizeof q->x[0] };
    q->column[1] = (struct psg_column){ .type = PSG_COL_I64, .data = q->label,
                                        .stride = sizeof q->label[0] };
    psg_attrs_free(a);
    psg_attrs_free(b);
}

static struct psg_train_options options_of(enum psg_clipping kind)
{
    static const double layer[] = { 0.3, 0.2, 0.4, 0.1 };
    struct psg_train_options o = {
        .plan = { .tile = 3, .n_threads = 2 },
        .is_private = true,
        .clipping = kind,
        .max_grad_norm = { .initial = 0.5 },
        .noise_multiplier = { .initial = 1.0 },
        .adaptive = { .bound = 0.5, .quantile = 0.5, .learning_rate = 0.2, .count_stddev = 4,
                      .expected_batch_size = 10, .min_bound = 1e-3, .max_bound = 10 },
        .poisson = true,
        .sample_rate = 0.25,
        .expected_batch_size = 10,
        .optimizer = psg_optimizer_defaults(PSG_SGD),
        .lr = { .initial = 0.1 },
    };
    o.optimizer.momentum = 0.9;
    if (kind == PSG_CLIP_PER_LAYER) {
        o.group_norm = layer;
        o.n_group_norm = 4;
    }
    return o;
}

static struct psg_trainer *trainer(struct problem *q, const struct psg_train_options *o,
                                   int64_t n_records)
{
    struct psg_trainer *t = NULL;
    struct psg_error err = { 0 };
    ck_assert_msg(psg_trainer_new(q->p, o, q->column, n_records, &q->key, &t, &err) == 0,
                  "%s: %s", err.place, err.text);
    return t;
}

static void run_steps(struct psg_trainer *t, int n)
{
    struct psg_step_report r;
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(psg_trainer_step(t, &r, NULL), 0);
}

static const enum psg_clipping kinds[] = { PSG_CLIP_FLAT, PSG_CLIP_PER_LAYER, PSG_CLIP_ADAPTIVE,
                                           PSG_CLIP_AUTO_S, PSG_CLIP_AUTO_V };

enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

/* One record, no noise, plain SGD with E = lr = 1: the update is the clipped gradient. */
START_TEST(the_contribution_of_one_record_never_exceeds_the_bound)
{
    struct problem q;
    problem_open(&q);
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_train_options o = options_of(kinds[_i]);
        o.plan.mode = (enum psg_mode)mode;
        o.noise_multiplier.initial = 0;
        o.sample_rate = 1;
        o.expected_batch_size = 1;
        o.lr.initial = 1;
        o.optimizer = psg_optimizer_defaults(PSG_SGD);
        for (int i = 0; i < FEATURES; i++)
            q.x[0][i] = 50.0f * (float)(i + 1); /* a gradient far beyond the bound */
        struct psg_trainer *t = trainer(&q, &o, 1);
        int64_t size = psg_program_param_size(q.p);
        double *before = calloc((size_t)size, sizeof *before), moved = 0, bound = 0;
        for (int64_t k = 0; k < size; k++)
            before[k] = (double)psg_trainer_params(t)[k];
        struct psg_step_report r;
        ck_assert_int_eq(psg_trainer_step(t, &r, NULL), 0);
        for (int64_t k = 0; k < size; k++)
            moved += pow((double)psg_trainer_params(t)[k] - before[k], 2);
        bound = kinds[_i] == PSG_CLIP_PER_LAYER ? sqrt(0.09 + 0.04 + 0.16 + 0.01) : 0.5;
        ck_assert_double_eq_tol(r.max_grad_norm, bound, 1e-12);
        ck_assert_double_le(sqrt(moved), bound * (1 + 1e-5));
        ck_assert_double_ge(sqrt(moved), bound * 0.5);
        free(before);
        psg_trainer_free(t);
    }
    psg_program_free(q.p);
}
END_TEST

/* RECORDS records of ten users, in no order. */
static struct psg_units ten_users(void)
{
    static int64_t first[11], record[RECORDS];
    int64_t n = 0;
    for (int u = 0; u < 10; u++) {
        first[u] = n;
        for (int i = 0; i < RECORDS; i++)
            if ((3 * i + i / 10) % 10 == u)
                record[n++] = i;
    }
    first[10] = n;
    ck_assert_int_eq(n, RECORDS);
    return (struct psg_units){ .n = 10, .first = first, .record = record };
}

START_TEST(a_resumed_run_is_bit_identical)
{
    struct problem q;
    problem_open(&q);
    struct psg_train_options o = options_of(kinds[_i % N_KINDS]);
    if (_i >= N_KINDS)
        o.units = ten_users();
    o.telemetry_share = 0.02;
    o.loss_bound = 3;
    o.secure_noise = _i < 3;
    if (_i % 2)
        o.optimizer = psg_optimizer_defaults(PSG_ADAM);
    struct psg_trainer *whole = trainer(&q, &o, RECORDS), *first = trainer(&q, &o, RECORDS),
                       *second;
    run_steps(whole, 9);
    run_steps(first, 4);
    o.plan.n_threads = 1;
    second = trainer(&q, &o, RECORDS);
    struct psg_state_tensor from, to;
    for (int i = 0; psg_trainer_tensor(first, i, &from); i++) {
        ck_assert(psg_trainer_tensor(second, i, &to));
        ck_assert_str_eq(from.name, to.name);
        memcpy(to.data, from.data, (size_t)from.n * sizeof *to.data);
    }
    struct psg_trainer_state state = psg_trainer_state(first);
    psg_trainer_set_state(second, &state);
    run_steps(second, 5);
    ck_assert_uint_eq(psg_trainer_step_number(second), 9);
    ck_assert_mem_eq(psg_trainer_params(whole), psg_trainer_params(second),
                     (size_t)psg_program_param_size(q.p) * sizeof(psg_real));
    psg_trainer_free(whole);
    psg_trainer_free(first);
    psg_trainer_free(second);
    psg_program_free(q.p);
}
END_TEST

/* With the noise off and every unit drawn, one user more or less moves the sum by at most C. */
START_TEST(the_contribution_of_one_user_never_exceeds_the_bound)
{
    struct problem q;
    problem_open(&q);
    for (int i = 0; i < RECORDS; i++)
        for (int k = 0; k < FEATURES; k++)
            q.x[i][k] *= 50;
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_train_options o = options_of(kinds[_i]);
        o.plan.mode = (enum psg_mode)mode;
        o.noise_multiplier.initial = 0;
        o.sample_rate = o.expected_batch_size = o.lr.initial = 1;
        o.optimizer = psg_optimizer_defaults(PSG_SGD);
        o.units = ten_users();
        o.units.sum = mode % 2;
        struct psg_train_options less = o;
        less.units.n = 9;
        struct psg_trainer *a = trainer(&q, &o, RECORDS), *b = trainer(&q, &less, RECORDS);
        struct psg_step_report r, s;
        double moved = 0;
        ck_assert_int_eq(psg_trainer_step(a, &r, NULL), 0);
        ck_assert_int_eq(psg_trainer_step(b, &s, NULL), 0);
        ck_assert_int_eq(r.exact.n, 10);
        ck_assert_int_eq(s.exact.n, 9);
        for (int64_t k = 0; k < psg_program_param_size(q.p); k++)
            moved += pow((double)psg_trainer_params(a)[k] - (double)psg_trainer_params(b)[k], 2);
        ck_assert_double_le(sqrt(moved), r.max_grad_norm * (1 + 1e-5));
        ck_assert_double_gt(moved, 0);
        psg_trainer_free(a);
        psg_trainer_free(b);
    }
    psg_program_free(q.p);
}
END_TEST

/* Empty batches: the update is the noise alone, with standard deviation s C / E (and the part of
 * the budget that telemetry takes). Two thousand draws; 5 sigma of the sample deviation. */
START_TEST(noise_has_the_stated_deviation_also_for_empty_batches)
{
    struct problem q;
    problem_open(&q);
    struct psg_train_options o = options_of(kinds[_i % N_KINDS]);
    o.telemetry_share = 0.2;
    o.loss_bound = 3;
    o.sample_rate = 0;
    o.secure_noise = _i >= N_KINDS;
    o.lr.initial = 1;
    o.optimizer = psg_optimizer_defaults(PSG_SGD);
    o.adaptive.learning_rate = 1e-9;
    struct psg_trainer *t = trainer(&q, &o, RECORDS);
    int64_t size = psg_program_param_size(q.p), draws = 0;
    double sum = 0, squares = 0, loss = 0, c = 0, z = 1 / sqrt(0.8);
    psg_real *before = calloc((size_t)size, sizeof *before);
    for (int step = 0; step < 60; step++) {
        struct psg_step_report r;
        memcpy(before, psg_trainer_params(t), (size_t)size * sizeof *before);
        ck_assert_int_eq(psg_trainer_step(t, &r, NULL), 0);
        ck_assert_int_eq(r.exact.n, 0);
        c = r.max_grad_norm;
        loss += pow(r.noisy_loss * 10 / 3, 2);
        for (int64_t k = 0; k < size; k++, draws++) {
            double d = (double)psg_trainer_params(t)[k] - (double)before[k];
            sum += d;
            squares += d * d;
        }
    }
    if (kinds[_i % N_KINDS] == PSG_CLIP_ADAPTIVE)
        z = 1 / sqrt(1 / (z * z) - 1 / 64.0);
    double want = z * c / 10, root = sqrt(2.0 * (double)draws);
    ck_assert_double_le(fabs(squares / (want * want) - (double)draws), 5 * root);
    ck_assert_double_le(fabs(sum), 5 * want * sqrt((double)draws));
    /* telemetry: L s / sqrt(f / 2); variance 10 of 60 draws, within a factor */
    ck_assert_double_ge(loss / 60, 10 * 0.4);
    ck_assert_double_le(loss / 60, 10 * 2.0);
    free(before);
    psg_trainer_free(t);
    psg_program_free(q.p);
}
END_TEST

START_TEST(without_privacy_it_is_sgd)
{
    struct problem q;
    problem_open(&q);
    struct psg_train_options o = options_of(PSG_CLIP_FLAT), d = o;
    o.is_private = false;
    d.noise_multiplier.initial = 0;
    d.max_grad_norm.initial = 1e20;
    struct psg_trainer *a = trainer(&q, &o, RECORDS), *b = trainer(&q, &d, RECORDS);
    run_steps(a, 5);
    run_steps(b, 5);
    for (int64_t k = 0; k < psg_program_param_size(q.p); k++)
        ck_assert_double_le(fabs((double)psg_trainer_params(a)[k] -
                                 (double)psg_trainer_params(b)[k]),
                            1e-6);
    psg_trainer_free(a);
    psg_trainer_free(b);
    psg_program_free(q.p);
}
END_TEST

START_TEST(shuffled_batches_train_too)
{
    struct problem q;
    problem_open(&q);
    struct psg_train_options o = options_of(PSG_CLIP_FLAT);
    o.poisson = false;
    o.batch_size = 16;
    struct psg_trainer *t = trainer(&q, &o, RECORDS);
    const int64_t want[] = { 16, 16, 8, 16, 16, 8 };
    for (int i = 0; i < 6; i++) {
        struct psg_step_report r;
        ck_assert_int_eq(psg_trainer_step(t, &r, NULL), 0);
        ck_assert_int_eq(r.exact.n, want[i]);
    }
    psg_trainer_free(t);
    psg_program_free(q.p);
}
END_TEST

/* The clipped mean (or sum) of the per-sample gradients of records 3, 7 and 8, by definition. */
static void unit_by_definition(struct problem *q, const struct psg_train_options *o,
                               const struct psg_trainer *t, double *want)
{
    static const int64_t three[] = { 3, 7, 8 };
    int64_t size = psg_program_param_size(q->p);
    struct psg_plan *plan = NULL;
    psg_real *rows = calloc((size_t)(3 * size), sizeof *rows);
    struct psg_plan_options options = { .mode = PSG_MODE_FUNCTORCH };
    struct psg_records records = { .n = 3, .record = three, .column = q->column };
    struct psg_grad_out out = { .rows = rows };
    double squares = 0;
    ck_assert_int_eq(psg_plan_new(q->p, &options, &plan, NULL), 0);
    ck_assert_int_eq(psg_grad_sample(plan, psg_trainer_params(t), &records, &out, NULL), 0);
    for (int64_t k = 0; k < size; k++) {
        want[k] = (double)rows[k] + (double)rows[size + k] + (double)rows[2 * size + k];
        want[k] /= o->units.sum ? 1 : 3;
    }
    for (int i = 0; i < psg_program_n_params(q->p); i++) {
        const struct psg_param_info *p = psg_program_param(q->p, i);
        bool grouped = o->clipping == PSG_CLIP_PER_LAYER;
        squares = grouped ? 0 : squares;
        int64_t first = grouped ? p->offset : 0;
        int64_t last = grouped ? p->offset + p->size : size;
        for (int64_t k = first; k < last && (grouped || i == 0); k++)
            squares += want[k] * want[k];
        double c = grouped ? o->group_norm[i] : 0.05;
        for (int64_t k = p->offset; k < p->offset + p->size && grouped; k++)
            want[k] *= fmin(1, c / (sqrt(squares) + 1e-6));
    }
    for (int64_t k = 0; k < size && o->clipping == PSG_CLIP_FLAT; k++)
        want[k] *= fmin(1, 0.05 / (sqrt(squares) + 1e-6));
    free(rows);
    psg_plan_free(plan);
}

START_TEST(a_user_is_clipped_as_one_unit)
{
    static const int64_t first[] = { 0, 3 }, record[] = { 3, 7, 8 };
    struct problem q;
    problem_open(&q);
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct psg_train_options o = options_of(_i < 2 ? PSG_CLIP_FLAT : PSG_CLIP_PER_LAYER);
        o.plan.mode = (enum psg_mode)mode;
        o.units = (struct psg_units){ .n = 1, .first = first, .record = record, .sum = _i % 2 };
        o.max_grad_norm.initial = 0.05;
        o.noise_multiplier.initial = 0;
        o.sample_rate = o.expected_batch_size = o.lr.initial = 1;
        o.optimizer = psg_optimizer_defaults(PSG_SGD);
        int64_t size = psg_program_param_size(q.p);
        double *want = calloc((size_t)size, sizeof *want);
        struct psg_trainer *t = trainer(&q, &o, RECORDS);
        psg_real *before = calloc((size_t)size, sizeof *before);
        memcpy(before, psg_trainer_params(t), (size_t)size * sizeof *before);
        unit_by_definition(&q, &o, t, want);
        struct psg_step_report r;
        ck_assert_int_eq(psg_trainer_step(t, &r, NULL), 0);
        ck_assert_int_eq(r.exact.n, 1);
        for (int64_t k = 0; k < size; k++)
            ck_assert_double_eq_tol((double)before[k] - (double)psg_trainer_params(t)[k],
                                    want[k], 3e-7);
        free(want);
        free(before);
        psg_trainer_free(t);
    }
    psg_program_free(q.p);
}
END_TEST

START_TEST(units_of_one_record_are_records)
{
    int64_t number[RECORDS + 1];
    struct problem q;
    problem_open(&q);
    for (int i = 0; i <= RECORDS; i++)
        number[i] = i;
    struct psg_train_options o = options_of(kinds[_i]), u = o;
    u.units = (struct psg_units){ .n = RECORDS, .first = number, .record = number };
    struct psg_trainer *a = trainer(&q, &o, RECORDS), *b = trainer(&q, &u, RECORDS);
    for (int i = 0; i < 5; i++) {
        struct psg_step_report r, s;
        ck_assert_int_eq(psg_trainer_step(a, &r, NULL), 0);
        ck_assert_int_eq(psg_trainer_step(b, &s, NULL), 0);
        ck_assert_int_eq(r.exact.n, s.exact.n);
        ck_assert_int_eq(r.exact.n_clipped, s.exact.n_clipped);
        ck_assert_double_eq_tol(r.exact.loss_sum, s.exact.loss_sum, 1e-5);
        ck_assert_double_eq_tol(r.exact.norm_sum, s.exact.norm_sum, 1e-4);
    }
    for (int64_t k = 0; k < psg_program_param_size(q.p); k++)
        ck_assert_double_eq_tol((double)psg_trainer_params(a)[k],
                                (double)psg_trainer_params(b)[k], 2e-6);
    psg_trainer_free(a);
    psg_trainer_free(b);
    psg_program_free(q.p);
}
END_TEST

START_TEST(a_cut_batch_has_at_most_its_largest_size)
{
    struct problem q;
    problem_open(&q);
    struct psg_train_options o = options_of(PSG_CLIP_FLAT);
    o.max_batch_size = 9;
    int64_t most = 0;
    struct psg_trainer *t = trainer(&q, &o, RECORDS);
    for (int i = 0; i < 30; i++) {
        struct psg_step_report r;
        ck_assert_int_eq(psg_trainer_step(t, &r, NULL), 0);
        most = r.exact.n > most ? r.exact.n : most;
    }
    ck_assert_int_eq(most, 9);
    psg_trainer_free(t);
    o.poisson = false;
    o.batch_size = 5;
    struct psg_error err;
    ck_assert_int_lt(psg_trainer_new(q.p, &o, q.column, RECORDS, &q.key, &t, &err), 0);
    ck_assert_str_eq(err.place, "max_batch_size");
    psg_program_free(q.p);
}
END_TEST

START_TEST(bad_options_name_their_place)
{
    struct problem q;
    problem_open(&q);
    struct psg_trainer *t = NULL;
    struct psg_error err;
    struct psg_train_options o = options_of(PSG_CLIP_PER_LAYER);
    o.n_group_norm = 3;
    ck_assert_int_lt(psg_trainer_new(q.p, &o, q.column, RECORDS, &q.key, &t, &err), 0);
    ck_assert_str_eq(err.place, "max_grad_norm");
    o = options_of(PSG_CLIP_FLAT);
    o.expected_batch_size = 0;
    ck_assert_int_lt(psg_trainer_new(q.p, &o, q.column, RECORDS, &q.key, &t, &err), 0);
    ck_assert_str_eq(err.place, "expected_batch_size");
    o = options_of(PSG_CLIP_FLAT);
    o.telemetry_share = 0.1;
    ck_assert_int_lt(psg_trainer_new(q.p, &o, q.column, RECORDS, &q.key, &t, &err), 0);
    ck_assert_str_eq(err.place, "loss_bound");
    o = options_of(PSG_CLIP_FLAT);
    o.max_grad_norm.initial = NAN;
    ck_assert_int_lt(psg_trainer_new(q.p, &o, q.column, RECORDS, &q.key, &t, &err), 0);
    ck_assert_ptr_null(t);
    psg_program_free(q.p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train");
    TCase *tc = tcase_create("train");
    int n = (int)(sizeof kinds / sizeof kinds[0]);
    tcase_add_loop_test(tc, the_contribution_of_one_record_never_exceeds_the_bound, 0, n);
    tcase_add_loop_test(tc, a_resumed_run_is_bit_identical, 0, 2 * n);
    tcase_add_loop_test(tc, the_contribution_of_one_user_never_exceeds_the_bound, 0, n);
    tcase_add_loop_test(tc, noise_has_the_stated_deviation_also_for_empty_batches, 0, 2 * n);
    tcase_add_loop_test(tc, a_user_is_clipped_as_one_unit, 0, 4);
    tcase_add_loop_test(tc, units_of_one_record_are_records, 0, n);
    tcase_add_test(tc, a_cut_batch_has_at_most_its_largest_size);
    tcase_add_test(tc, without_privacy_it_is_sgd);
    tcase_add_test(tc, shuffled_batches_train_too);
    tcase_add_test(tc, bad_options_name_their_place);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
