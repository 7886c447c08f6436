/* Rules of a client against functorch, before the first use.
 *
 * A node whose rules came from a client is put into a program of its own, alone:
 *
 *   inputs --node--> outputs --times random weights--> sum: the loss
 *
 * so that every sample sees another gradient of the outputs. On a few random records its rows,
 * norms and clipped sums in hooks and ghost must be those of functorch, which takes them from
 * the lowering. For an op of the client's own, forward and backward are compared as well. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "mode/mode.h"

/* two full tiles and one that is not */
enum { RECORDS = 5, TILE = 2, IN_MAX = 32, OUT_MAX = 8 };

struct trial {
    const struct psg_program *p; /* of the caller */
    const struct node *node;
    const struct psg_plan_options *options;
    bool foreign; /* an op of the client's own */
    struct psg_program *alone;
    psg_real *params;
    void *data[IN_MAX + OUT_MAX];
    struct psg_column column[IN_MAX + OUT_MAX];
    struct psg_key key;
};

/* ---- the program of one node ---- */

static int add_weighted_sum(struct psg_program *p, const struct node *node, psg_value *out,
                            psg_value *lossp, struct psg_error *err)
{
    psg_value loss = PSG_NONE;
    for (int j = 0; j < node->n_out; j++) {
        char name[16], times[16], sum[16], add[16];
        const struct psg_type type = *psg_program_type(p, out[j]);
        psg_value in[2] = { out[j], PSG_NONE };
        if (type.dtype != PSG_REAL)
            continue;
        snprintf(name, sizeof name, "w%d", j);
        snprintf(times, sizeof times, "times%d", j);
        snprintf(sum, sizeof sum, "sum%d", j);
        snprintf(add, sizeof add, "add%d", j);
        int r = psg_program_input(p, name, PSG_REAL, &type.shape, &in[1], err);
        if (r == 0)
            r = psg_program_add(p, "mul", times, in, 2, NULL, NULL, 0, in, NULL, err);
        if (r == 0)
            r = psg_program_add(p, "sum", sum, in, 1, NULL, NULL, 0, in, NULL, err);
        if (r == 0 && loss != PSG_NONE) {
            in[1] = loss;
            r = psg_program_add(p, "add", add, in, 2, NULL, NULL, 0, in, NULL, err);
        }
        if (r)
            return r;
        loss = in[0];
    }
    *lossp = loss;
    return 0;
}

static int build_alone(struct trial *t, struct psg_error *err)
{
    const struct node *node = t->node;
    psg_value in[IN_MAX], out[OUT_MAX], loss = PSG_NONE;
    int r = 0;
    if (!(t->alone = psg_program_new()))
        return psg_fail(err, PSG_E_NOMEM, node->path, "out of memory");
    for (int j = 0; r == 0 && j < node->n_in; j++) {
        char name[16];
        const struct psg_type *type = &t->p->values[node->in[j]].type;
        snprintf(name, sizeof name, "x%d", j);
        r = psg_program_input(t->alone, name, type->dtype, &type->shape, &in[j], err);
    }
    if (r == 0)
        r = psg_program_add_op(t->alone, node->op, node->path, in, node->n_in, node->attrs, NULL, 0,
                               out, NULL, err);
    if (r == 0)
        r = add_weighted_sum(t->alone, node, out, &loss, err);
    if (r == 0)
        r = psg_program_set_loss(t->alone, loss, err);
    for (int k = 0; r == 0 && k < node->n_param; k++)
        if (!t->p->params[node->param[k].param].info.trainable)
            r = psg_program_freeze(t->alone, t->alone->params[k].name, err);
    return r ? r : psg_program_check(t->alone, err);
}

/* ---- records and parameters ---- */

/* Real inputs lie in (low, 1); ids in their legal range. */
static int draw_inputs(struct trial *t, double low, struct psg_error *err)
{
    for (int i = 0; i < t->alone->n_inputs; i++) {
        const struct psg_input_info *info = &t->alone->inputs[i].info;
        int64_t size = psg_shape_size(&info->type.shape);
        double *u = t->data[i];
        if (!u && !(u = t->data[i] = calloc((size_t)size * RECORDS + 1, sizeof *u)))
            return psg_fail(err, PSG_E_NOMEM, t->node->path, "out of memory");
        int r = psg_rng_fill_uniform(&t->key, PSG_RNG_USER, 1, (uint32_t)i, 0, size * RECORDS,
                                     u, err);
        if (r)
            return r;
        bool ids = info->type.dtype == PSG_I64;
        double hi = info->hi == INT64_MAX ? (double)(info->lo < 0 ? 2 : info->lo + 2)
                                          : (double)info->hi,
               lo = info->lo == INT64_MIN ? fmin(0, hi - 1) : (double)info->lo;
        for (int64_t k = 0; k < size * RECORDS; k++) {
            u[k] = ids ? floor(lo + u[k] * (hi - lo)) : low + (1 - low) * u[k];
            if (ids) /* the same 8 bytes */
                memcpy(&u[k], &(int64_t){ (int64_t)u[k] }, sizeof u[k]);
        }
        t->column[i] = (struct psg_column){ .type = ids ? PSG_COL_I64 : PSG_COL_F64,
                                            .data = u,
                                            .stride = (size_t)size * sizeof *u };
    }
    return 0;
}

/* First values, moved a little: zeros and ones would hide mistakes. */
static int draw_params(struct trial *t, struct psg_error *err)
{
    int64_t size = t->alone->param_size;
    t->params = calloc((size_t)size + 1, sizeof *t->params);
    _cleanup_free_ psg_real *u = calloc((size_t)size + 1, sizeof *u);
    if (!t->params || !u)
        return psg_fail(err, PSG_E_NOMEM, t->node->path, "out of memory");
    psg_program_init_params(t->alone, &t->key, t->params);
    int r = psg_rng_fill_real(&t->key, PSG_RNG_USER, 2, 0, 0, size, u, err);
    for (int64_t k = 0; r == 0 && k < size; k++)
        t->params[k] += (psg_real)0.25 * (u[k] - (psg_real)0.5);
    return r;
}

/* ---- answers ---- */

struct answer {
    psg_real *rows, *sum, *input[IN_MAX + OUT_MAX];
    psg_real loss[RECORDS];
    double sq[RECORDS];
};

static void answer_clear(struct answer *a)
{
    free(a->rows);
    free(a->sum);
    for (int i = 0; i < IN_MAX + OUT_MAX; i++)
        free(a->input[i]);
}

/* Different weights, one of them 0; they depend on nothing but the place in the tile. */
static void trial_weights(const void *arg, int64_t n, int64_t stride, int n_groups,
                          const double *sqnorm, psg_real *weight)
{
    (void)arg;
    (void)sqnorm;
    for (int g = 0; g < n_groups; g++)
        for (int64_t i = 0; i < n; i++)
            weight[g * stride + i] = i == 0 ? (psg_real)0.75 : 0;
}

static int answer_make(struct trial *t, enum psg_mode mode, struct answer *a,
                       struct psg_error *err)
{
    struct psg_plan_options o = { .mode = mode,
                                  .backend = t->options->backend,
                                  .tile = TILE,
                                  .n_lanes = 1,
                                  .input_grads = t->foreign,
                                  .registry = t->options->registry };
    _cleanup_(psg_plan_freep) struct psg_plan *plan = NULL;
    int64_t size = t->alone->trainable_size;
    a->rows = calloc((size_t)size * RECORDS + 1, sizeof *a->rows);
    a->sum = calloc((size_t)size + 1, sizeof *a->sum);
    bool room = a->rows && a->sum;
    for (int i = 0; t->foreign && i < t->node->n_in; i++) {
        const struct psg_type *type = &t->alone->inputs[i].info.type;
        if (type->dtype != PSG_REAL)
            continue;
        a->input[i] = calloc((size_t)psg_shape_size(&type->shape) * RECORDS + 1,
                             sizeof *a->input[i]);
        room &= a->input[i] != NULL;
    }
    if (!room)
        return psg_fail(err, PSG_E_NOMEM, t->node->path, "out of memory");
    struct psg_records records = { .n = RECORDS, .column = t->column, .key = &t->key };
    struct psg_grad_out out = { .rows = a->rows,
                                .sqnorm = a->sq,
                                .loss = a->loss,
                                .input_grad = t->foreign ? a->input : NULL };
    struct psg_sum_options sum = { .weight = trial_weights };
    int r = plan_new_unchecked(t->alone, &o, &plan, err);
    if (r == 0)
        r = psg_grad_sample(plan, t->params, &records, &out, err);
    if (r == 0)
        r = psg_clipped_sum(plan, t->params, &records, &sum, a->sum, NULL, err);
    return r;
}

/* ---- comparing ---- */

struct gap {
    double worst, largest; /* |got - want|, |want|; NaN wins */
};

static void gap_add(struct gap *gap, double got, double want)
{
    double d = fabs(got - want);
    if (!(d <= gap->worst))
        gap->worst = d;
    gap->largest = fmax(gap->largest, fabs(want));
}

/* Rounding of sums of a few thousand terms, in another order. */
static bool gap_is_small(const struct gap *gap)
{
    const double tolerance = sizeof(psg_real) == 4 ? 2e-4 : 1e-9;
    return gap->worst <= tolerance * gap->largest + tolerance * 1e-4;
}

static int refuse(const struct trial *t, const char *place, const char *what, enum psg_mode mode,
                  const struct gap *gap, struct psg_error *err)
{
    return psg_fail(err, PSG_E_INVALID, place,
                    "%s of %s, brought by %s, differs from functorch in mode %s: largest "
                    "difference %.3g where the numbers go up to %.3g, on %d random records",
                    what, t->node->op->name,
                    registry_origin(t->options->registry, t->node->op), psg_mode_name(mode),
                    gap->worst, gap->largest, RECORDS);
}

static int compare_params(const struct trial *t, enum psg_mode mode, const struct answer *got,
                          const struct answer *want, struct psg_error *err)
{
    int64_t size = t->alone->trainable_size;
    for (int k = 0; k < t->node->n_param; k++) {
        const struct psg_param_info *info = &t->alone->params[k].info;
        const char *name = t->p->params[t->node->param[k].param].name;
        struct gap rows = { 0 }, sum = { 0 };
        if (!info->trainable)
            continue;
        for (int64_t e = info->offset; e < info->offset + info->size; e++) {
            for (int64_t i = 0; i < RECORDS; i++)
                gap_add(&rows, (double)got->rows[i * size + e],
                        (double)want->rows[i * size + e]);
            gap_add(&sum, (double)got->sum[e], (double)want->sum[e]);
        }
        if (!gap_is_small(&rows))
            return refuse(t, name, "the per-sample gradient", mode, &rows, err);
        if (!gap_is_small(&sum))
            return refuse(t, name, "the clipped sum", mode, &sum, err);
    }
    return 0;
}

static int compare(const struct trial *t, enum psg_mode mode, const struct answer *got,
                   const struct answer *want, struct psg_error *err)
{
    struct gap loss = { 0 }, norm = { 0 };
    for (int i = 0; i < RECORDS; i++)
        gap_add(&loss, (double)got->loss[i], (double)want->loss[i]);
    if (!gap_is_small(&loss))
        return refuse(t, t->node->path, "forward", mode, &loss, err);
    for (int j = 0; t->foreign && j < t->node->n_in; j++) {
        struct gap gap = { 0 };
        if (!got->input[j])
            continue;
        int64_t n = RECORDS * psg_shape_size(&t->alone->inputs[j].info.type.shape);
        for (int64_t e = 0; e < n; e++)
            gap_add(&gap, (double)got->input[j][e], (double)want->input[j][e]);
        if (!gap_is_small(&gap))
            return refuse(t, t->node->path, "backward", mode, &gap, err);
    }
    int r = compare_params(t, mode, got, want, err);
    for (int i = 0; i < RECORDS; i++)
        gap_add(&norm, sqrt(fmax(got->sq[i], 0)), sqrt(want->sq[i]));
    if (r == 0 && !gap_is_small(&norm))
        r = refuse(t, t->node->path, "the norm", mode, &norm, err);
    return r;
}

static bool answer_finite(const struct trial *t, const struct answer *a)
{
    double sum = 0;
    for (int64_t k = 0; k < t->alone->trainable_size * RECORDS; k++)
        sum += (double)a->rows[k];
    for (int i = 0; i < RECORDS; i++)
        sum += (double)a->loss[i];
    return isfinite(sum);
}

/* functorch on records from (-1, 1), or from (0.1, 1) where that is not finite (logarithms). */
static int expect(struct trial *t, struct answer *want, struct psg_error *err)
{
    int r = draw_inputs(t, -1, err);
    if (r == 0)
        r = answer_make(t, PSG_MODE_FUNCTORCH, want, err);
    if (r || answer_finite(t, want))
        return r;
    answer_clear(want);
    memset(want, 0, sizeof *want);
    r = draw_inputs(t, 0.1, err);
    return r ? r : answer_make(t, PSG_MODE_FUNCTORCH, want, err);
}

static int trial_run(struct trial *t, struct psg_error *err)
{
    static const enum psg_mode modes[] = { PSG_MODE_HOOKS, PSG_MODE_GHOST };
    struct answer want = { 0 };
    psg_key_from_seed(0x6772616473616d70, &t->key);
    int r = build_alone(t, err);
    if (r == 0)
        r = draw_params(t, err);
    if (r == 0)
        r = expect(t, &want, err);
    for (int m = 0; r == 0 && m < 2; m++) {
        struct answer got = { 0 };
        r = answer_make(t, modes[m], &got, err);
        if (r == 0)
            r = compare(t, modes[m], &got, &want, err);
        answer_clear(&got);
    }
    answer_clear(&want);
    return r;
}

static bool is_foreign(const struct psg_op *op)
{
    return psg_op_find(op->name) != op &&
           (op->forward || op->backward || op->grad_sample || op->norm_sample ||
            op->clipped_sum);
}

int client_rules_check(const struct psg_program *p, const struct psg_plan_options *options,
                       struct psg_error *err)
{
    if (options->mode == PSG_MODE_FUNCTORCH || options->mode == PSG_MODE_EW ||
        p->loss == PSG_NONE)
        return 0;
    int r = 0;
    for (int i = 0; r == 0 && i < p->n_nodes; i++) {
        const struct node *node = &p->nodes[i];
        bool trains = false;
        for (int k = 0; k < node->n_param; k++)
            trains |= p->params[node->param[k].param].info.trainable;
        struct trial t = { .p = p, .node = node, .options = options,
                           .foreign = is_foreign(node->op) };
        bool real = false; /* an output that could lead to a loss */
        for (int j = 0; j < node->n_out; j++)
            real |= p->values[node->out[j]].type.dtype == PSG_REAL;
        bool sampled = trains && psg_registry_sampler(options->registry, node->op->name);
        if (!real || (!sampled && !t.foreign))
            continue;
        r = trial_run(&t, err);
        psg_program_free(t.alone);
        free(t.params);
        for (int k = 0; k < IN_MAX + OUT_MAX; k++)
            free(t.data[k]);
    }
    return r;
}
