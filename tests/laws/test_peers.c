/* Known wrong in peers: each item is a test of that name. Gradients are held to central
 * differences of the loss itself, in double, so no sampler vouches for another. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models.h"
#include "psg/train.h"
#include "suite.h"

enum { N = 4, SAMPLE_MAX = 160 };

struct fixture {
    struct psg_program *p;
    psg_real *params;
    double real[N * SAMPLE_MAX];
    int64_t ids[N * SAMPLE_MAX], y[N];
    struct psg_column column[2];
    struct psg_key key;
    int64_t size, out_size;
};

static void open_net(struct fixture *f, const char *input, const char *const *layers)
{
    const struct model m = { .name = "net", .n_classes = 3, .input = input, .layers = layers };
    struct psg_error err = { 0 };
    memset(f, 0, sizeof *f);
    ck_assert_msg(model_build(&m, &f->p, &err) == 0, "%s: %s", err.place, err.text);
    const struct psg_input_info *in = psg_program_input_info(f->p, 0);
    f->size = psg_shape_size(&in->type.shape);
    f->out_size = psg_shape_size(&psg_program_output_type(f->p)->shape);
    ck_assert_int_le(f->size, SAMPLE_MAX);
    psg_key_from_seed(4, &f->key);
    ck_assert_int_eq(psg_rng_fill_uniform(&f->key, PSG_RNG_USER, 0, 0, 0, N * f->size, f->real,
                                          NULL),
                     0);
    bool ids = in->type.dtype == PSG_I64;
    for (int64_t i = 0; i < N * f->size; i++) {
        f->ids[i] = ids ? (int64_t)(f->real[i] * (double)in->hi) : 0;
        f->real[i] = 2 * f->real[i] - 1;
    }
    for (int i = 0; i < N; i++)
        f->y[i] = i % 3;
    f->column[0] = (struct psg_column){ .type = ids ? PSG_COL_I64 : PSG_COL_F64,
                                        .data = ids ? (void *)f->ids : f->real,
                                        .stride = (size_t)f->size * 8 };
    f->column[1] = (struct psg_column){ .type = PSG_COL_I64, .data = f->y, .stride = 8 };
    f->params = calloc((size_t)psg_program_param_size(f->p) + 1, sizeof *f->params);
    psg_program_init_params(f->p, &f->key, f->params);
}

static void close_net(struct fixture *f)
{
    psg_program_free(f->p);
    free(f->params);
}

static void run(struct fixture *f, enum psg_mode mode, const struct psg_grad_out *out)
{
    struct psg_plan_options o = { .mode = mode, .tile = 3 };
    struct psg_plan *plan = NULL;
    struct psg_error err = { 0 };
    struct psg_records records = { .n = N, .column = f->column, .key = &f->key, .step = 1 };
    ck_assert_msg(psg_plan_new(f->p, &o, &plan, &err) == 0, "%s: %s", err.place, err.text);
    ck_assert_msg(psg_grad_sample(plan, f->params, &records, out, &err) == 0, "%s: %s", err.place,
                  err.text);
    psg_plan_free(plan);
}

/* rows[n, k] against (loss_n(w + h e_k) - loss_n(w - h e_k)) / 2h, and norms against rows. */
static void check_rows(struct fixture *f, enum psg_mode mode)
{
    const double h = 1e-5, tolerance = 1e-6;
    int64_t p = psg_program_trainable_size(f->p);
    psg_real *rows = calloc((size_t)(N * p) + 1, sizeof *rows), up[N], down[N];
    double sq[N], want = 0;
    run(f, mode, &(struct psg_grad_out){ .rows = rows, .sqnorm = sq });
    for (int64_t k = 0; k < p; k++) {
        psg_real kept = f->params[k];
        f->params[k] = kept + (psg_real)h;
        run(f, PSG_MODE_HOOKS, &(struct psg_grad_out){ .loss = up });
        f->params[k] = kept - (psg_real)h;
        run(f, PSG_MODE_HOOKS, &(struct psg_grad_out){ .loss = down });
        f->params[k] = kept;
        for (int i = 0; i < N; i++)
            ck_assert_double_eq_tol((double)rows[i * p + k],
                                    (double)(up[i] - down[i]) / (2 * h), tolerance);
    }
    for (int i = 0; i < N; i++) {
        want = 0;
        for (int64_t k = 0; k < p; k++)
            want += (double)rows[i * p + k] * (double)rows[i * p + k];
        ck_assert_double_eq_tol(sq[i], want, 1e-10 * (1 + want));
    }
    free(rows);
}

#define LAYERS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void check_all_modes(const char *input, const char *const *layers)
{
    struct fixture f;
    open_net(&f, input, layers);
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++)
        check_rows(&f, (enum psg_mode)mode);
    close_net(&f);
}

START_TEST(conv_padding_mode_in_samplers_and_norms)
{
    check_all_modes("2x4x5", LAYERS("c conv2d out_channels=2 kernel_size=3 padding=1 "
                                    "padding_mode=circular",
                                    "f flatten", "l linear out_features=3"));
    check_all_modes("2x4x5", LAYERS("c conv2d out_channels=2 kernel_size=3 padding=2,1 "
                                    "padding_mode=reflect",
                                    "f flatten", "l linear out_features=3"));
    check_all_modes("2x6", LAYERS("c conv1d out_channels=2 kernel_size=3 padding=2 "
                                  "padding_mode=replicate",
                                  "f flatten", "l linear out_features=3"));
}
END_TEST

/* Smooth functions where their formulas have two branches: at 0, which padding makes common. */
START_TEST(activations_at_zero)
{
    static const char *const acts[] = { "a softplus", "a logsigmoid", "a mish", "a silu",
                                        "a gelu" };
    for (size_t k = 0; k < sizeof acts / sizeof *acts; k++) {
        struct fixture f;
        open_net(&f, "4", LAYERS("i linear out_features=3 bias=false", acts[k],
                                 "l linear out_features=3"));
        memset(f.params, 0, 12 * sizeof *f.params);
        for (int mode = 0; mode < PSG_MODE_COUNT; mode++)
            check_rows(&f, (enum psg_mode)mode);
        close_net(&f);
    }
}
END_TEST

/* The kernels' slopes where a formula has a corner are the formula's own in every mode. */
START_TEST(activations_at_their_kinks)
{
    static const double at[] = { 0, -3, 3, 6, -1, 1, -0.5, 0.5, 2 };
    static const char *const acts[] = {
        "a relu", "a relu6", "a elu", "a elu alpha=2", "a celu alpha=0.5", "a selu",
        "a leaky_relu negative_slope=0.1", "a hardsigmoid", "a hardswish", "a hardtanh",
        "a hardtanh min_val=-0.5 max_val=2", "a softsign", "a hardshrink", "a softshrink",
        "a threshold threshold=0.5 value=-1", "a prelu", "a rnn_relu hidden_size=2"
    };
    enum { POINTS = sizeof at / sizeof *at };
    for (size_t k = 0; k < sizeof acts / sizeof *acts; k++) {
        struct fixture f;
        open_net(&f, "2x4", LAYERS("i linear out_features=9", acts[k], "f flatten",
                                   "l linear out_features=3"));
        for (int i = 0; i < psg_program_n_params(f.p); i++) {
            const struct psg_param_info *info = psg_program_param(f.p, i);
            if (info->name[0] != 'l')
                memset(f.params + info->offset, 0, (size_t)info->size * sizeof *f.params);
        }
        for (int i = 0; i < POINTS && !strstr(acts[k], "rnn"); i++) /* y = bias */
            f.params[4 * POINTS + i] = (psg_real)at[i];
        int64_t p = psg_program_trainable_size(f.p);
        psg_real *rows[2] = { calloc((size_t)(N * p), 8), calloc((size_t)(N * p), 8) };
        run(&f, PSG_MODE_HOOKS, &(struct psg_grad_out){ .rows = rows[0] });
        for (int mode = 1; mode < PSG_MODE_COUNT; mode++) {
            run(&f, (enum psg_mode)mode, &(struct psg_grad_out){ .rows = rows[1] });
            for (int64_t i = 0; i < N * p; i++)
                ck_assert_msg(fabs((double)(rows[0][i] - rows[1][i])) < 1e-12,
                              "%s, %s: %g and %g", acts[k], psg_mode_name((enum psg_mode)mode),
                              (double)rows[0][i], (double)rows[1][i]);
        }
        free(rows[0]);
        free(rows[1]);
        close_net(&f);
    }
}
END_TEST

START_TEST(padding_idx)
{
    struct fixture f;
    const char *const *layers = LAYERS("e embedding num_embeddings=3 embedding_dim=2 "
                                       "padding_idx=1",
                                       "f flatten", "l linear out_features=3");
    open_net(&f, "i64<3:5", layers);
    int64_t p = psg_program_trainable_size(f.p);
    psg_real *rows = calloc((size_t)(N * p), sizeof *rows);
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        double sq[N];
        run(&f, (enum psg_mode)mode, &(struct psg_grad_out){ .rows = rows, .sqnorm = sq });
        for (int i = 0; i < N; i++) { /* row 1 of the table has no gradient, in rows and norms */
            double want = 0;
            for (int64_t k = 0; k < p; k++)
                want += (double)rows[i * p + k] * (double)rows[i * p + k];
            ck_assert(rows[i * p + 2] == 0 && rows[i * p + 3] == 0);
            ck_assert_double_eq_tol(sq[i], want, 1e-10 * (1 + want));
        }
    }
    free(rows);
    close_net(&f);
}
END_TEST

START_TEST(repeated_ids_in_a_bag)
{
    check_all_modes("i64<2:6", LAYERS("e embedding_bag num_embeddings=2 embedding_dim=3 mode=sum",
                                      "l linear out_features=3"));
    check_all_modes("i64<2:6", LAYERS("e embedding_bag num_embeddings=2 embedding_dim=3 mode=mean",
                                      "l linear out_features=3"));
}
END_TEST

START_TEST(bag_max)
{
    check_all_modes("i64<4:6", LAYERS("e embedding_bag num_embeddings=4 embedding_dim=3 mode=max",
                                      "l linear out_features=3"));
}
END_TEST

START_TEST(broadcast_position_ids)
{
    struct fixture f;
    open_net(&f, "i64<5:5", LAYERS("e embedding num_embeddings=5 embedding_dim=2", "f flatten",
                                   "l linear out_features=3"));
    f.column[0].stride = 0; /* the same ids for every record */
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++)
        check_rows(&f, (enum psg_mode)mode);
    close_net(&f);
}
END_TEST

START_TEST(layer_norm_without_bias)
{
    check_all_modes("3x4", LAYERS("n layer_norm normalized_shape=4 bias=false", "f flatten",
                                  "l linear out_features=3"));
}
END_TEST

/* Dropout belongs between the layers: with nearly everything dropped there, the last layer still
 * answers from its biases; dropped after it, or inside the recurrence, it would be zero. */
START_TEST(rnn_dropout_placement)
{
    struct fixture f;
    psg_real out[N * 3];
    open_net(&f, "4x2", LAYERS("r lstm hidden_size=3 num_layers=2 dropout=0.999999999999 "
                               "return=last_hidden"));
    run(&f, PSG_MODE_HOOKS, &(struct psg_grad_out){ .output = out });
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 3; k++) {
            ck_assert(out[i * 3 + k] != 0);
            ck_assert(out[i * 3 + k] == out[k]); /* nothing of the input comes through */
        }
    close_net(&f);
    check_all_modes("4x2", LAYERS("r gru hidden_size=3 num_layers=2 dropout=0.4",
                                  "m mean dim=1,", "l linear out_features=3"));
}
END_TEST

START_TEST(groups_are_not_mixed)
{
    check_all_modes("4x3x3", LAYERS("c conv2d out_channels=4 kernel_size=2 groups=4 bias=false",
                                    "f flatten", "l linear out_features=3"));
    check_all_modes("4x3x3", LAYERS("c conv2d out_channels=6 kernel_size=2 groups=2",
                                    "f flatten", "l linear out_features=3"));
}
END_TEST

/* batch_first says where the batch axis of the data lies, and nothing else: records that lie
 * [T, N, E] give the rows of the same records as [N, T, E], and those are right. */
START_TEST(mha_batch_first)
{
    enum { T = 3, E = 4 };
    struct fixture f;
    double time_first[T * N * E];
    open_net(&f, "3x4", LAYERS("a multihead_attention*3 num_heads=2 batch_first=false",
                               "f flatten", "l linear out_features=3"));
    int64_t p = psg_program_trainable_size(f.p);
    psg_real *rows[2] = { calloc((size_t)(N * p), sizeof(psg_real)),
                          calloc((size_t)(N * p), sizeof(psg_real)) };
    for (int n = 0; n < N; n++)
        for (int t = 0; t < T; t++)
            memcpy(time_first + (t * N + n) * E, f.real + (n * T + t) * E, E * sizeof(double));
    const struct psg_column plain = f.column[0];
    const struct psg_column swapped = { .type = PSG_COL_F64, .data = time_first,
                                        .stride = E * sizeof(double), .inner = E,
                                        .outer_stride = N * E };
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        double sq[2][N];
        for (int k = 0; k < 2; k++) {
            f.column[0] = k ? swapped : plain;
            run(&f, (enum psg_mode)mode,
                &(struct psg_grad_out){ .rows = rows[k], .sqnorm = sq[k] });
        }
        for (int64_t i = 0; i < N * p; i++)
            ck_assert(rows[0][i] == rows[1][i]);
        for (int n = 0; n < N; n++)
            ck_assert(sq[0][n] == sq[1][n]);
        check_rows(&f, (enum psg_mode)mode);
    }
    free(rows[0]);
    free(rows[1]);
    close_net(&f);
}
END_TEST

/* ---- a backend that counts ---- */
static struct work {
    double conv, products; /* multiply-adds */
} work;

static double conv_work(const struct psg_conv *c, int64_t n)
{
    double per = (double)n * (double)c->out_channels * (double)(c->in_channels / c->groups);
    for (int i = 0; i < c->win.rank; i++)
        per *= (double)(c->win.kernel[i] * c->win.out[i]);
    return per;
}

static void count_conv(const struct psg_conv *c, int64_t n, const psg_real *x,
                       const psg_real *w, const psg_real *bias, psg_real *y, psg_real *scratch)
{
    work.conv += conv_work(c, n);
    psg_backend_ref()->conv(c, n, x, w, bias, y, scratch);
}

static void count_conv_bwd_data(const struct psg_conv *c, int64_t n, const psg_real *dy,
                                const psg_real *w, psg_real *dx, psg_real *scratch)
{
    work.conv += conv_work(c, n);
    psg_backend_ref()->conv_bwd_data(c, n, dy, w, dx, scratch);
}

static void count_conv_bwd_weight(const struct psg_conv *c, int64_t n, const psg_real *x,
                                  const psg_real *dy, psg_real *dw, int64_t stride,
                                  psg_real *scratch)
{
    work.conv += conv_work(c, n);
    psg_backend_ref()->conv_bwd_weight(c, n, x, dy, dw, stride, scratch);
}

static void count_gemm_batched(const struct psg_gemm *g, int64_t count, const psg_real *a,
                               int64_t stride_a, const psg_real *b, int64_t stride_b,
                               psg_real *c, int64_t stride_c)
{
    work.products += (double)count * (double)g->m * (double)g->n * (double)g->k;
    psg_backend_ref()->gemm_batched(g, count, a, stride_a, b, stride_b, c, stride_c);
}

static void count_gemm(const struct psg_gemm *g, const psg_real *a, const psg_real *b,
                       psg_real *c)
{
    count_gemm_batched(g, 1, a, 0, b, 0, c, 0);
}

/* Work of a clipped sum of N samples through a grouped convolution. */
static struct work work_of(const char *conv, enum psg_mode mode)
{
    struct fixture f;
    struct psg_backend counting = *psg_backend_ref();
    counting.conv = count_conv;
    counting.conv_bwd_data = count_conv_bwd_data;
    counting.conv_bwd_weight = count_conv_bwd_weight;
    counting.gemm = count_gemm;
    counting.gemm_batched = count_gemm_batched;
    open_net(&f, "8x4x4", LAYERS("a prelu num_parameters=8", conv, "m mean dim=2,3",
                                 "l linear out_features=3"));
    struct psg_plan_options o = { .mode = mode, .tile = N, .backend = &counting };
    struct psg_plan *plan = NULL;
    struct psg_error err = { 0 };
    struct psg_records records = { .n = N, .column = f.column, .key = &f.key };
    struct psg_sum_options all = { 0 };
    psg_real *sum = calloc((size_t)psg_program_trainable_size(f.p) + 1, sizeof *sum);
    ck_assert_msg(psg_plan_new(f.p, &o, &plan, &err) == 0, "%s: %s", err.place, err.text);
    work = (struct work){ 0 };
    ck_assert_int_eq(psg_clipped_sum(plan, f.params, &records, &all, sum, NULL, &err), 0);
    struct work done = work;
    psg_plan_free(plan);
    free(sum);
    close_net(&f);
    return done;
}

/* With G groups a convolution has 1/G of the multiply-adds, in every pass of every mode. */
START_TEST(groups_computed_g_times_over)
{
    for (int mode = 0; mode < PSG_MODE_COUNT; mode++) {
        struct work one = work_of("c conv2d out_channels=8 kernel_size=3 padding=1", mode);
        struct work four = work_of("c conv2d out_channels=8 kernel_size=3 padding=1 groups=4",
                                   mode);
        struct work head = work_of("c tanh", mode);
        double whole = one.conv + one.products - head.products;
        ck_assert_double_gt(whole, 0);
        ck_assert_double_le(4 * (four.conv + four.products - head.products), whole);
    }
}
END_TEST

/* A clip schedule moves the bound and the noise together, and ghost takes part. */
START_TEST(clip_schedules_in_ghost)
{
    struct fixture f;
    open_net(&f, "6", LAYERS("a linear out_features=4", "t tanh", "b linear out_features=3"));
    struct psg_train_options o = {
        .is_private = true,
        .clipping = PSG_CLIP_FLAT,
        .max_grad_norm = { .kind = PSG_SCHEDULE_EXPONENTIAL, .initial = 1, .gamma = 0.5,
                           .period = 1 },
        .noise_multiplier = { .initial = 1 },
        .poisson = true,
        .sample_rate = 0.7,
        .expected_batch_size = 3,
        .optimizer = psg_optimizer_defaults(PSG_SGD),
        .lr = { .initial = 0.1 },
    };
    struct psg_trainer *t[2] = { NULL };
    for (int i = 0; i < 2; i++) {
        o.plan.mode = i ? PSG_MODE_GHOST : PSG_MODE_HOOKS;
        ck_assert_int_eq(psg_trainer_new(f.p, &o, f.column, N, &f.key, &t[i], NULL), 0);
    }
    for (int step = 0; step < 6; step++) {
        struct psg_step_report r[2];
        for (int i = 0; i < 2; i++)
            ck_assert_int_eq(psg_trainer_step(t[i], &r[i], NULL), 0);
        ck_assert_double_eq_tol(r[1].max_grad_norm, pow(0.5, step), 1e-12);
        ck_assert_int_eq(r[0].exact.n_clipped, r[1].exact.n_clipped);
    }
    for (int64_t k = 0; k < psg_program_param_size(f.p); k++)
        ck_assert_double_eq_tol((double)psg_trainer_params(t[0])[k],
                                (double)psg_trainer_params(t[1])[k], 1e-12);
    psg_trainer_free(t[0]);
    psg_trainer_free(t[1]);
    close_net(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("peers");
    TCase *tc = tcase_create("peers");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, conv_padding_mode_in_samplers_and_norms);
    tcase_add_test(tc, activations_at_zero);
    tcase_add_test(tc, activations_at_their_kinks);
    tcase_add_test(tc, padding_idx);
    tcase_add_test(tc, repeated_ids_in_a_bag);
    tcase_add_test(tc, bag_max);
    tcase_add_test(tc, broadcast_position_ids);
    tcase_add_test(tc, layer_norm_without_bias);
    tcase_add_test(tc, rnn_dropout_placement);
    tcase_add_test(tc, mha_batch_first);
    tcase_add_test(tc, groups_are_not_mixed);
    tcase_add_test(tc, groups_computed_g_times_over);
    tcase_add_test(tc, clip_schedules_in_ghost);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
