/* The table that must be all green: rows of layers and situations, a column for each mode. Every
 * cell is a test of that name: per-sample gradients of all nets of the row in that mode equal
 * those of `ref` one sample at a time, and the clipped sum is the weighted sum of them. Run with
 * --print for the table. The row of TorchScript files takes those of tests/golden/models, whose
 * gradients oracle_import holds to PyTorch's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_sampler.h"
#include "models.h"
#include "psg/dp.h"
#include "psg/plan.h"
#include "scripted.h"

enum { N = 7, LAYERS_MAX = 8, SAMPLE_MAX = 160 };

struct net {
    const char *row, *title; /* title: opens a row */
    const char *input;
    const char *layers[LAYERS_MAX]; /* or one TorchScript file */
};

#define ROW(name, text)    { .row = #name, .title = text },
#define NET(in, ...)       { .input = in, .layers = { __VA_ARGS__ } },
#define SCRIPTED(in, file) { .input = in, .layers = { file } },
static const struct net nets[] = {
#include "table.inc"
};
enum { N_NETS = sizeof nets / sizeof nets[0] };

struct fixture {
    struct psg_program *p;
    struct scripted scripted;
    psg_real *params;
    void *x;
    int64_t y[N];
    struct psg_column column[2];
    struct psg_key key;
};

/* the op and the samplers of the row about a client's own */
static struct client_count calls;
static struct psg_registry *registry;

static void square_sampler(const struct psg_sampler_call *c)
{
    atomic_fetch_add(&calls.grad, 1);
    client_square.grad_sample(c->call);
}

static bool registry_open(void)
{
    const struct psg_grad_sampler linear = {
        .op = "linear", .grad_sample = client_linear_grad, .norm_sample = client_linear_norm,
        .clipped_sum = client_linear_sum, .user = &calls
    };
    const struct psg_grad_sampler square = { .op = "client_square",
                                             .grad_sample = square_sampler };
    registry = psg_registry_new();
    return registry && psg_register_op(registry, &client_square, NULL, NULL) == 0 &&
           psg_register_grad_sampler(registry, &linear, NULL) == 0 &&
           psg_register_grad_sampler(registry, &square, NULL) == 0;
}

static int calls_made(void)
{
    return calls.grad + calls.norm + calls.sum;
}

static bool is_file(const struct net *net)
{
    return net->layers[0] && strstr(net->layers[0], ".pt");
}

static int build(struct fixture *f, const struct net *net, struct psg_error *err)
{
    const struct model m = { .name = "cell", .n_classes = 3, .input = net->input,
                             .layers = net->layers };
    if (!is_file(net))
        return model_build_with(&m, registry, &f->p, err);
    char path[512];
    snprintf(path, sizeof path, "%s/%s", SCRIPTED_MODELS, net->layers[0]);
    return scripted_open(&f->scripted, path, net->input, err);
}

static bool fixture_open(struct fixture *f, const struct net *net, struct psg_error *err)
{
    memset(f, 0, sizeof *f);
    if (build(f, net, err))
        return false;
    if (is_file(net))
        f->p = psg_import_program(f->scripted.import);
    const struct psg_input_info *in = psg_program_input_info(f->p, 0);
    int64_t size = psg_shape_size(&in->type.shape);
    double u[N * SAMPLE_MAX];
    psg_key_from_seed(8, &f->key);
    if (size > SAMPLE_MAX)
        return psg_fail(err, PSG_E_RANGE, net->input, "more than %d numbers", SAMPLE_MAX) == 0;
    if (psg_rng_fill_uniform(&f->key, PSG_RNG_USER, 0, 0, 0, N * size, u, err))
        return false;
    f->x = calloc((size_t)(N * size), 8);
    f->params = calloc((size_t)psg_program_param_size(f->p) + 1, sizeof *f->params);
    for (int64_t i = 0; i < N * size; i++) {
        if (in->type.dtype == PSG_I64)
            ((int64_t *)f->x)[i] = (int64_t)(u[i] * (double)in->hi);
        else
            ((double *)f->x)[i] = 2 * u[i] - 1;
    }
    for (int i = 0; i < N; i++)
        f->y[i] = i % 3;
    f->column[0] = (struct psg_column){
        .type = in->type.dtype == PSG_I64 ? PSG_COL_I64 : PSG_COL_F64,
        .data = f->x, .stride = (size_t)size * 8
    };
    f->column[1] = (struct psg_column){ .type = PSG_COL_I64, .data = f->y, .stride = 8 };
    if (is_file(net))
        return psg_import_params(f->scripted.import, f->params, err) == 0;
    psg_program_init_params(f->p, &f->key, f->params);
    return true;
}

static void fixture_close(struct fixture *f)
{
    if (f->scripted.import)
        scripted_close(&f->scripted); /* the program lives in it */
    else
        psg_program_free(f->p);
    free(f->params);
    free(f->x);
}

struct answer {
    psg_real *rows, *sum;
    double sq[N];
};

static void weigh(const void *arg, int64_t n, int64_t stride, int n_groups, const double *sq,
                  psg_real *weight)
{
    (void)stride;
    (void)n_groups;
    psg_clip_factors(PSG_CLIP_FLAT, *(const double *)arg, n, sq, weight, NULL, NULL);
}

/* n records whose columns may have the batch axis elsewhere. */
static bool answer_make(struct fixture *f, const struct psg_column *column, int64_t n,
                        const struct psg_plan_options *o, double bound, struct answer *a,
                        struct psg_error *err)
{
    struct psg_plan *plan = NULL;
    size_t size = (size_t)psg_program_trainable_size(f->p) + 1;
    struct psg_records records = { .n = n, .column = column, .key = &f->key, .step = 3 };
    a->rows = calloc(N * size, sizeof *a->rows);
    a->sum = calloc(size, sizeof *a->sum);
    struct psg_grad_out out = { .rows = a->rows, .sqnorm = a->sq };
    struct psg_sum_options clip = { .weight = weigh, .weight_arg = &bound };
    bool ok = psg_plan_new(f->p, o, &plan, err) == 0 &&
              psg_grad_sample(plan, f->params, &records, &out, err) == 0 &&
              psg_clipped_sum(plan, f->params, &records, &clip, a->sum, NULL, err) == 0;
    psg_plan_free(plan);
    return ok;
}

static void answer_free(struct answer *a)
{
    free(a->rows);
    free(a->sum);
}

/* Relative to the largest number: float rounding through a few layers. */
static double difference(const psg_real *a, const psg_real *b, int64_t n)
{
    double largest = 1e-30, worst = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)b[i]));
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        worst = d <= worst ? worst : d; /* NaN wins */
    }
    return worst / largest;
}

static bool compare(const struct fixture *f, const struct answer *got,
                    const struct answer *want, int64_t n, double bound, char *why, size_t size)
{
    const double tolerance = sizeof(psg_real) == 4 ? 5e-6 : 1e-12;
    int64_t p = psg_program_trainable_size(f->p);
    psg_real *sum = calloc((size_t)p + 1, sizeof *sum);
    for (int64_t i = 0; i < n; i++) {
        double c = fmin(1, bound / (sqrt(want->sq[i]) + 1e-6));
        for (int64_t k = 0; k < p; k++)
            sum[k] += (psg_real)(c * (double)want->rows[i * p + k]);
    }
    double rows = difference(got->rows, want->rows, n * p), total = difference(got->sum, sum, p);
    double norms = 0;
    for (int64_t i = 0; i < n; i++)
        norms = fmax(norms, fabs(got->sq[i] - want->sq[i]) / (want->sq[i] + 1e-30));
    free(sum);
    if (rows <= tolerance && total <= tolerance && norms <= 10 * tolerance)
        return true;
    snprintf(why, size, "rows differ by %.2g, sum by %.2g, squared norms by %.2g", rows, total,
             norms);
    return false;
}

/* One net in one mode: the full batch, or none of it; with the client's samplers or without. */
static bool net_passes(const struct net *net, enum psg_mode mode, int64_t n, bool client,
                       char *why, size_t size)
{
    struct psg_error err = { 0 };
    struct fixture f;
    struct answer want = { 0 }, got = { 0 };
    struct psg_plan_options ref = { .mode = PSG_MODE_HOOKS, .backend = psg_backend_ref(),
                                    .tile = 1 };
    struct psg_plan_options here = { .mode = mode, .tile = 3, .n_threads = 2,
                                     .registry = client ? registry : NULL };
    double bound = 0.8;
    bool ok = fixture_open(&f, net, &err) &&
              answer_make(&f, f.column, n, &ref, bound, &want, &err) &&
              answer_make(&f, f.column, n, &here, bound, &got, &err);
    if (ok)
        ok = compare(&f, &got, &want, n, bound, why, size);
    else
        snprintf(why, size, "%s: %s", err.place, err.text);
    answer_free(&want);
    answer_free(&got);
    fixture_close(&f);
    return ok;
}

/* The same net on data whose batch axis is second: [T, N, D] as recurrent nets have it. */
static bool batch_second_passes(const struct net *net, enum psg_mode mode, char *why,
                                size_t size)
{
    struct psg_error err = { 0 };
    struct fixture f;
    struct answer want = { 0 }, got = { 0 };
    struct psg_plan_options here = { .mode = mode, .tile = 3, .n_threads = 2 };
    double bound = 0.8, moved[N * SAMPLE_MAX];
    if (!fixture_open(&f, net, &err)) {
        snprintf(why, size, "%s: %s", err.place, err.text);
        return false;
    }
    const struct psg_shape *shape = &psg_program_input_info(f.p, 0)->type.shape;
    int64_t total = psg_shape_size(shape), inner = total / shape->dim[0];
    for (int64_t i = 0; i < N; i++)
        for (int64_t e = 0; e < total; e++)
            moved[(e / inner * N + i) * inner + e % inner] = ((double *)f.x)[i * total + e];
    struct psg_column column[2] = { { .type = PSG_COL_F64, .data = moved,
                                      .stride = (size_t)inner * 8, .inner = inner,
                                      .outer_stride = N * inner },
                                    f.column[1] };
    bool ok = answer_make(&f, f.column, N, &here, bound, &want, &err) &&
              answer_make(&f, column, N, &here, bound, &got, &err);
    size_t bytes = (size_t)(N * psg_program_trainable_size(f.p)) * sizeof(psg_real);
    if (ok && memcmp(want.rows, got.rows, bytes) != 0) {
        snprintf(why, size, "another result with the batch axis second");
        ok = false;
    } else if (!ok) {
        snprintf(why, size, "%s: %s", err.place, err.text);
    }
    answer_free(&want);
    answer_free(&got);
    fixture_close(&f);
    return ok;
}

enum { ROWS_MAX = 16 };
enum situation { FULL, EMPTY, BATCH_SECOND, CLIENT };

struct row {
    const char *name, *title;
    int first, last; /* nets */
    enum situation situation;
};

/* The rows of table.inc, then the situations that hold for nets of all rows. */
static int list_rows(struct row *rows)
{
    int n = 0;
    for (int i = 0; i < N_NETS; i++) {
        if (nets[i].title)
            rows[n++] = (struct row){ nets[i].row, nets[i].title, i + 1, i, FULL };
        else
            rows[n - 1].last = i;
    }
    int recurrent = 0;
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].name, "client_sampler") == 0)
            rows[i].situation = CLIENT;
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].name, "recurrent") == 0)
            recurrent = i;
    rows[n] = (struct row){ "batch_second", "batch_first=False", rows[recurrent].first,
                            rows[recurrent].last, BATCH_SECOND };
    rows[n + 1] = (struct row){ "empty_batch", "Empty Poisson batches", 0, N_NETS - 1, EMPTY };
    return n + 2;
}

/* hooks, ghost and auto take the client's rules, functorch and ew their own route. */
static bool client_passes(const struct net *net, enum psg_mode mode, char *why, size_t size)
{
    int before = calls_made();
    if (!net_passes(net, mode, N, true, why, size))
        return false;
    bool asked = calls_made() > before;
    bool own_route = mode == PSG_MODE_FUNCTORCH || mode == PSG_MODE_EW;
    if (asked != own_route)
        return true;
    snprintf(why, size, asked ? "the client's rules were called" : "no rule was called");
    return false;
}

static bool cell_passes(const struct row *row, enum psg_mode mode, char *why, size_t size)
{
    for (int i = row->first; i <= row->last; i++) {
        char reason[500];
        bool ok = nets[i].title ? true
                  : row->situation == BATCH_SECOND
                      ? batch_second_passes(&nets[i], mode, reason, sizeof reason)
                  : row->situation == CLIENT
                      ? client_passes(&nets[i], mode, reason, sizeof reason)
                      : net_passes(&nets[i], mode, row->situation == EMPTY ? 0 : N, false,
                                   reason, sizeof reason);
        if (ok)
            continue;
        snprintf(why, size, "%.60s ...: %.400s", nets[i].layers[0], reason);
        return false;
    }
    return true;
}

static int run_tests(void)
{
    struct row rows[ROWS_MAX];
    int n = list_rows(rows), failed = 0;
    char why[600];
    printf("1..%d\n", n * PSG_MODE_COUNT);
    for (int i = 0; i < n * PSG_MODE_COUNT; i++) {
        const struct row *row = &rows[i / PSG_MODE_COUNT];
        enum psg_mode mode = (enum psg_mode)(i % PSG_MODE_COUNT);
        bool ok = cell_passes(row, mode, why, sizeof why);
        failed += !ok;
        printf("%s %d - %s/%s%s%s\n", ok ? "ok" : "not ok", i + 1, row->name,
               psg_mode_name(mode), ok ? "" : ": ", ok ? "" : why);
    }
    return failed > 0;
}

static int print_table(void)
{
    struct row rows[ROWS_MAX];
    int n = list_rows(rows), failed = 0;
    char why[600];
    printf("| |");
    for (int m = 0; m < PSG_MODE_COUNT; m++)
        printf(" %s |", psg_mode_name((enum psg_mode)m));
    printf("\n|---|---|---|---|---|---|\n");
    for (int i = 0; i < n; i++) {
        printf("| %s |", rows[i].title);
        for (int m = 0; m < PSG_MODE_COUNT; m++) {
            bool ok = cell_passes(&rows[i], (enum psg_mode)m, why, sizeof why);
            failed += !ok;
            printf(" %s |", ok ? "yes" : "NO");
        }
        printf("\n");
    }
    return failed > 0;
}

int main(int argc, char **argv)
{
    bool ok = registry_open();
    int r = !ok ? 1 : argc > 1 && strcmp(argv[1], "--print") == 0 ? print_table() : run_tests();
    psg_registry_free(registry);
    return r;
}
