#include "op_laws.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "program/lower.h"

static const bool is_double = sizeof(psg_real) == sizeof(double);

struct law {
    const struct op_bench *b;
    const struct psg_backend *be;
    uint64_t seed;
    char *why;
};

static bool broken(const struct law *l, const char *law, int64_t n, const char *text)
{
    snprintf(l->why, WHY_SIZE, "law %s, N = %lld: %.300s", law, (long long)n, text);
    return false;
}

static double value_at(const void *x, bool doubles, int64_t i)
{
    return doubles ? ((const double *)x)[i] : (double)((const psg_real *)x)[i];
}

/* |got - want| <= tolerance * the largest |want|, for numbers of either kind */
static bool close_to(const struct law *l, const char *law, const char *what, int64_t n,
                     int64_t size, const void *got, const void *want, bool doubles,
                     double tolerance)
{
    double scale = 0.1;
    for (int64_t i = 0; i < size; i++)
        scale = fmax(scale, fabs(value_at(want, doubles, i)));
    for (int64_t i = 0; i < size; i++) {
        double a = value_at(got, doubles, i), w = value_at(want, doubles, i);
        if (fabs(a - w) <= tolerance * scale)
            continue;
        char text[200];
        snprintf(text, sizeof text, "%s[%lld] is %.9g, should be %.9g (largest %.3g)", what,
                 (long long)i, a, w, scale);
        return broken(l, law, n, text);
    }
    return true;
}

static bool reals_close(const struct law *l, const char *law, const char *what, int64_t n,
                        int64_t size, const psg_real *got, const psg_real *want)
{
    if (!got || !want)
        return true;
    return close_to(l, law, what, n, size, got, want, false, is_double ? 1e-9 : 3e-5);
}

static bool results_close(const struct law *l, const char *law, int64_t n,
                          const struct op_result *got, const struct op_result *want)
{
    const struct op_bench *b = l->b;
    for (int j = 0; j < b->n_out; j++)
        if (!reals_close(l, law, "out", n, n * b->out_size[j], got->out[j], want->out[j]))
            return false;
    for (int i = 0; i < b->n_in; i++)
        if (!reals_close(l, law, "din", n, n * b->in[i].size, got->din[i], want->din[i]))
            return false;
    if (!reals_close(l, law, "grad", n, n * b->n_coord, got->rows, want->rows) ||
        !reals_close(l, law, "sum", n, b->n_coord, got->sum, want->sum))
        return false;
    return !got->sq || !want->sq ||
           close_to(l, law, "sq", n, n, got->sq, want->sq, true, is_double ? 1e-9 : 3e-5);
}

/* ---- laws 1, 2 ---- */
static bool law_buffers(const struct law *l, const struct op_batch *batch, bool training,
                        struct op_result *r)
{
    char text[200];
    if (!op_run(l->b, l->be, batch, training, training, r, text, sizeof text))
        return broken(l, "1 (buffers)", batch->n, text);
    return true;
}

static bool law_backend(const struct law *l, const struct op_batch *batch, bool training,
                        const struct op_result *got)
{
    struct op_result ref;
    char text[200];
    bool ok =
        op_run(l->b, psg_backend_ref(), batch, training, training, &ref, text, sizeof text);
    ok = ok && results_close(l, "2 (backend equals ref)", batch->n, got, &ref);
    op_result_close(&ref);
    return ok;
}

/* ---- law 3: a coordinate moves in every sample at once, and each sample answers for
 * itself ---- */
/* y[n] = sum over outputs of dout * out */
static bool answers(const struct law *l, const struct op_batch *batch, double *y)
{
    struct op_result r;
    char text[200];
    bool ok = op_run(l->b, l->be, batch, true, false, &r, text, sizeof text);
    for (int64_t n = 0; n < batch->n; n++) {
        y[n] = 0;
        for (int j = 0; ok && j < l->b->n_out; j++)
            for (int64_t k = n * l->b->out_size[j]; k < (n + 1) * l->b->out_size[j]; k++)
                y[n] += (double)r.out[j][k] * (double)batch->dout[j][k];
    }
    op_result_close(&r);
    return ok;
}

/* d[n] of x[at + n * stride], n < count (count 1: a parameter) */
static bool difference(const struct law *l, const struct op_batch *batch, psg_real *x,
                       int64_t stride, int64_t count, double *up, double *down)
{
    const double h = 1e-6;
    _cleanup_free_ psg_real *kept = calloc((size_t)count, sizeof *kept);
    bool ok = kept != NULL;
    for (int64_t n = 0; ok && n < count; n++) {
        kept[n] = x[n * stride];
        x[n * stride] = (psg_real)((double)kept[n] + h);
    }
    ok = ok && answers(l, batch, up);
    for (int64_t n = 0; ok && n < count; n++)
        x[n * stride] = (psg_real)((double)kept[n] - h);
    ok = ok && answers(l, batch, down);
    for (int64_t n = 0; ok && n < count; n++)
        x[n * stride] = kept[n];
    for (int64_t n = 0; ok && n < batch->n; n++)
        up[n] = (up[n] - down[n]) / (2 * h);
    return ok;
}

static bool differences_close(const struct law *l, const char *what, int64_t n_batch,
                              int64_t k, int64_t stride, const double *numeric,
                              const psg_real *got)
{
    for (int64_t n = 0; n < n_batch; n++) {
        double a = (double)got[n * stride + k], w = numeric[n];
        if (fabs(a - w) <= 2e-6 * fmax(1, fabs(w)))
            continue;
        char text[200];
        snprintf(text, sizeof text,
                 "%s[%lld] of sample %lld is %.9g, differences give %.9g", what,
                 (long long)k, (long long)n, a, w);
        return broken(l, "3 (numeric gradient)", n_batch, text);
    }
    return true;
}

/* Coordinate k of parameter q lies in a row that is used but, by contract, gets no gradient
 * (padding_idx); infer names it as the row that starts at zero. */
static bool has_no_gradient(const struct op_bench *b, int q, int64_t k)
{
    int64_t row = b->program->params[b->node->param[q].param].info.init.zero_row;
    return row > 0 && k / (b->param_size[q] / b->param_shape[q].dim[0]) == row - 1;
}

static bool law_numeric(const struct law *l, struct op_batch *batch,
                        const struct op_result *r)
{
    const struct op_bench *b = l->b;
    double up[8], down[8];
    for (int i = 0; i < b->n_in; i++)
        for (int64_t k = 0; r->din[i] && k < b->in[i].size; k++)
            if (!difference(l, batch, (psg_real *)batch->in[i] + k, b->in[i].size, batch->n,
                            up, down) ||
                !differences_close(l, "din", batch->n, k, b->in[i].size, up, r->din[i]))
                return false;
    for (int q = 0; q < b->n_param && r->rows; q++) {
        for (int64_t k = 0; k < b->param_size[q]; k++)
            if (!has_no_gradient(b, q, k) &&
                (!difference(l, batch, batch->param[q] + k, 0, 1, up, down) ||
                 !differences_close(l, "grad", batch->n, b->param_at[q] + k, b->n_coord, up,
                                    r->rows)))
                return false;
    }
    return true;
}

/* ---- law 4 ---- */
static void shift(const struct op_bench *b, const struct op_result *r, int64_t n,
                  struct op_result *to)
{
    *to = (struct op_result){ 0 };
    for (int j = 0; j < b->n_out; j++)
        to->out[j] = r->out[j] + n * b->out_size[j];
    for (int i = 0; i < b->n_in; i++)
        to->din[i] = r->din[i] ? r->din[i] + n * b->in[i].size : NULL;
    to->rows = r->rows ? r->rows + n * b->n_coord : NULL;
    to->sq = r->sq ? r->sq + n : NULL;
}

static bool law_alone(const struct law *l, const struct op_batch *batch,
                      const struct op_result *r)
{
    bool ok = true;
    for (int64_t n = 0; n < batch->n && ok; n++) {
        struct op_batch one;
        struct op_result alone, part;
        char text[200];
        ok = op_batch_single(&one, l->b, batch, n) == 0 &&
             op_run(l->b, l->be, &one, true, true, &alone, text, sizeof text);
        shift(l->b, r, n, &part);
        ok = ok && results_close(l, "4 (a sample alone)", 1, &part, &alone);
        op_result_close(&alone);
        op_batch_close(&one);
    }
    return ok;
}

/* What frozen parameters must leave alone: nothing is written for them, and the others get
 * what they got before. Runs without backward too, as a first layer does. */
static bool law_frozen(const struct law *l, struct op_batch *batch,
                       const struct op_result *all)
{
    const struct op_bench *b = l->b;
    struct op_result r;
    char text[200];
    batch->frozen = batch->no_backward = true;
    bool ok = op_run(b, l->be, batch, true, true, &r, text, sizeof text);
    batch->frozen = batch->no_backward = false;
    for (int64_t n = 0; n < batch->n && ok; n++) {
        double sq = 0;
        for (int q = 0; q < b->n_param && all->rows && ok; q++) {
            const psg_real *got = r.rows + n * b->n_coord + b->param_at[q];
            const psg_real *want = all->rows + n * b->n_coord + b->param_at[q];
            for (int64_t k = 0; k < b->param_size[q] && q % 2; k++)
                ok = ok && isnan(got[k]);
            for (int64_t k = 0; k < b->param_size[q] && !(q % 2); k++)
                sq += (double)want[k] * (double)want[k];
            ok = ok && (q % 2 || reals_close(l, "4 (frozen)", "grad", 1, b->param_size[q],
                                             got, want));
        }
        ok = ok && (!r.sq || close_to(l, "4 (frozen)", "sq", 1, 1, &r.sq[n], &sq, true,
                                      is_double ? 1e-9 : 3e-5));
    }
    for (int q = 0; q < b->n_param && r.sum && ok; q += 2)
        ok = reals_close(l, "4 (frozen)", "sum", batch->n, b->param_size[q],
                         r.sum + b->param_at[q], all->sum + b->param_at[q]);
    op_result_close(&r);
    return ok || (l->why[0] != '\0'
                      ? false
                      : broken(l, "4 (frozen)", batch->n, "wrote to a frozen parameter"));
}

/* An output that does not lead to the loss: no backprop is the same as one of zeros. */
static bool law_unused_output(const struct law *l, struct op_batch *batch)
{
    const struct op_bench *b = l->b;
    struct op_result none, zeros;
    char text[200];
    if (b->n_out < 2)
        return true;
    for (int j = 1; j < b->n_out; j++)
        memset(batch->dout[j], 0, (size_t)(batch->n * b->out_size[j]) * sizeof(psg_real));
    bool ok = op_run(b, l->be, batch, true, true, &zeros, text, sizeof text);
    batch->first_out = true;
    ok = op_run(b, l->be, batch, true, true, &none, text, sizeof text) && ok;
    batch->first_out = false;
    ok = ok && results_close(l, "4 (unused output)", batch->n, &none, &zeros);
    op_result_close(&none);
    op_result_close(&zeros);
    return ok;
}

/* ---- law 5 ---- */
static bool law_norms(const struct law *l, const struct op_batch *batch,
                      const struct op_result *r)
{
    int64_t p = l->b->n_coord;
    if (!r->rows)
        return true;
    _cleanup_free_ double *sq = calloc((size_t)batch->n + 1, sizeof *sq);
    _cleanup_free_ psg_real *sum = calloc((size_t)p + 1, sizeof *sum);
    if (!sq || !sum)
        return false;
    for (int64_t k = 0; k < p; k++) {
        double total = op_sum_start;
        for (int64_t n = 0; n < batch->n; n++) {
            double g = (double)r->rows[n * p + k];
            sq[n] += g * g;
            total += (double)batch->weight[n] * g;
        }
        sum[k] = (psg_real)total;
    }
    if (r->sq && !close_to(l, "5 (norms)", "sq", batch->n, batch->n, r->sq, sq, true,
                           is_double ? 1e-9 : 3e-5))
        return false;
    return reals_close(l, "5 (clipped sum)", "sum", batch->n, p, r->sum, sum);
}

/* Sample 1 has weight 0: nothing of it may reach the sum. */
static bool law_zero_weight(const struct law *l, const struct op_batch *batch,
                            uint64_t seed, const struct op_result *r)
{
    struct op_batch bad;
    struct op_result spoilt;
    char text[200];
    if (!r->sum || batch->n < 2 || op_batch_open(&bad, l->b, batch->n, seed))
        return true;
    for (int i = 0; i < l->b->n_in; i++)
        for (int64_t k = 0; k < l->b->in[i].size && l->b->in[i].dtype == PSG_REAL; k++)
            ((psg_real *)bad.in[i])[l->b->in[i].size + k] = (psg_real)INFINITY;
    for (int j = 0; j < l->b->n_out; j++)
        for (int64_t k = 0; k < l->b->out_size[j]; k++)
            bad.dout[j][l->b->out_size[j] + k] = (psg_real)NAN;
    bool ok =
        op_run(l->b, l->be, &bad, true, true, &spoilt, text, sizeof text) &&
        reals_close(l, "5 (weight 0)", "sum", batch->n, l->b->n_coord, spoilt.sum, r->sum);
    op_result_close(&spoilt);
    op_batch_close(&bad);
    return ok;
}

/* ---- law 6 ---- */
/* Inputs: of the node, parameters, random numbers. Outputs: of the node. */
static struct psg_graph *lowered(const struct law *l, bool training, struct psg_error *err)
{
    const struct op_bench *b = l->b;
    _cleanup_(psg_graph_freep) struct psg_graph *g = psg_graph_new();
    psg_value in[OP_IO_MAX], param[OP_PARAM_MAX], out[OP_IO_MAX], random = PSG_NONE;
    for (int i = 0; i < b->n_in; i++)
        in[i] = psg_graph_input(g, b->in[i].dtype, &b->in[i].shape);
    for (int r = 0; r < b->n_param; r++)
        param[r] = psg_graph_input(g, PSG_REAL, &b->param_shape[r]);
    struct psg_shape draws = PSG_SHAPE(b->node->random);
    if (b->node->random > 0)
        random = psg_graph_input(g, PSG_REAL, &draws);
    int status = node_lower(b->program, b->node, g, in, param, random, training, out);
    for (int j = 0; j < b->n_out && status == 0; j++)
        psg_graph_output(g, out[j]);
    int check = psg_graph_check(g, err);
    if (status && !check)
        psg_fail(err, status, "", "the lowering is not what infer promised");
    return status || check ? NULL : steal(&g);
}

/* vmap over n samples, simplified, run: out[j] point to zeroed memory */
static bool run_graph(const struct law *l, const struct psg_graph *one, bool cotangents,
                      const struct op_batch *batch, psg_real **out, struct psg_error *err)
{
    const struct op_bench *b = l->b;
    bool batched[2 * OP_IO_MAX + OP_PARAM_MAX + 1];
    const void *in[2 * OP_IO_MAX + OP_PARAM_MAX + 1];
    int k = 0;
    for (int i = 0; i < b->n_in; i++, k++)
        in[k] = batch->in[i], batched[k] = true;
    for (int r = 0; r < b->n_param; r++, k++)
        in[k] = batch->param[r], batched[k] = false;
    if (b->node->random > 0)
        in[k] = batch->random, batched[k++] = true;
    for (int j = 0; j < b->n_out && cotangents; j++, k++)
        in[k] = batch->dout[j], batched[k] = true;
    _cleanup_(psg_graph_freep) struct psg_graph *many =
        psg_graph_vmap(one, batch->n, batched, err);
    _cleanup_(psg_graph_freep) struct psg_graph *g =
        many ? psg_graph_simplify(many, err) : NULL;
    struct psg_exec *exec = NULL;
    if (!g || psg_exec_new(g, l->be, &exec, err))
        return false;
    bool ok = true;
    for (int j = 0; j < psg_graph_n_outputs(g); j++) {
        int64_t size = psg_shape_size(&psg_graph_type(g, psg_graph_output_at(g, j))->shape);
        ok = (out[j] = calloc((size_t)size + 1, sizeof(psg_real))) && ok;
    }
    if (ok)
        psg_exec_run(exec, in, (void *const *)out);
    psg_exec_free(exec);
    return ok;
}

static bool lowering_forward(const struct law *l, const struct op_batch *batch,
                             bool training, const struct op_result *r)
{
    psg_real *out[OP_IO_MAX] = { NULL };
    struct psg_error err = { 0 };
    _cleanup_(psg_graph_freep) struct psg_graph *g = lowered(l, training, &err);
    bool ok = g && run_graph(l, g, false, batch, out, &err);
    if (!ok)
        broken(l, "6 (lowering)", batch->n, err.text);
    for (int j = 0; j < l->b->n_out; j++) {
        ok = ok &&
             reals_close(l, training ? "6 (lowering)" : "6 (lowering, not training)", "out",
                         batch->n, batch->n * l->b->out_size[j], r->out[j], out[j]);
        free(out[j]);
    }
    return ok;
}

static bool compare_vjp(const struct law *l, const struct op_batch *batch,
                        const struct op_result *r, psg_real *const *out)
{
    const struct op_bench *b = l->b;
    int64_t n = batch->n;
    int k = 0;
    for (int i = 0; i < b->n_in; i++)
        if (b->in[i].dtype == PSG_REAL &&
            !reals_close(l, "6 (vjp of lowering)", "din", n, n * b->in[i].size, r->din[i],
                         out[k++]))
            return false;
    for (int q = 0; q < b->n_param && r->rows; q++, k++)
        for (int64_t s = 0; s < n; s++)
            if (!reals_close(l, "6 (vjp of lowering)", "grad", n, b->param_size[q],
                             r->rows + s * b->n_coord + b->param_at[q],
                             out[k] + s * b->param_size[q]))
                return false;
    return true;
}

static bool lowering_vjp(const struct law *l, const struct op_batch *batch,
                         const struct op_result *r)
{
    const struct op_bench *b = l->b;
    psg_real *out[OP_IO_MAX + OP_PARAM_MAX] = { NULL };
    int wrt[OP_IO_MAX + OP_PARAM_MAX], n_wrt = 0;
    struct psg_error err = { 0 };
    for (int i = 0; i < b->n_in; i++)
        if (b->in[i].dtype == PSG_REAL)
            wrt[n_wrt++] = i;
    for (int q = 0; q < b->n_param; q++)
        wrt[n_wrt++] = b->n_in + q;
    if (n_wrt == 0)
        return true;
    _cleanup_(psg_graph_freep) struct psg_graph *g = lowered(l, true, &err);
    _cleanup_(psg_graph_freep) struct psg_graph *vjp =
        g ? psg_graph_vjp(g, wrt, n_wrt, &err) : NULL;
    bool ok = vjp && run_graph(l, vjp, true, batch, out, &err);
    if (!ok)
        broken(l, "6 (vjp of lowering)", batch->n, err.text);
    ok = ok && compare_vjp(l, batch, r, out);
    for (int k = 0; k < n_wrt; k++)
        free(out[k]);
    return ok;
}

/* ---- all of them ---- */
static bool laws_for(const struct law *l, int64_t n)
{
    struct op_batch batch;
    struct op_result r = { 0 }, plain = { 0 };
    uint64_t seed = l->seed * 1000 + (uint64_t)n;
    bool is_ref = l->be == psg_backend_ref();
    if (op_batch_open(&batch, l->b, n, seed))
        return broken(l, "-", n, "out of memory");
    bool ok = law_buffers(l, &batch, true, &r) && law_buffers(l, &batch, false, &plain);
    ok = ok && (is_ref || (law_backend(l, &batch, true, &r) &&
                           law_backend(l, &batch, false, &plain)));
    ok = ok && (!is_double || !is_ref || n != 2 || law_numeric(l, &batch, &r));
    ok = ok && (n != 2 || law_alone(l, &batch, &r));
    ok = ok && law_norms(l, &batch, &r) && law_zero_weight(l, &batch, seed, &r);
    ok =
        ok && (n == 1 || n == 7 ||
               (lowering_forward(l, &batch, true, &r) &&
                lowering_forward(l, &batch, false, &plain) && lowering_vjp(l, &batch, &r)));
    ok = ok && (n != 2 || (law_frozen(l, &batch, &r) && law_unused_output(l, &batch)));
    op_result_close(&r);
    op_result_close(&plain);
    op_batch_close(&batch);
    return ok;
}

bool op_laws_hold(const struct psg_op *op, const char *attrs, const char *inputs,
                  const struct psg_backend *be, uint64_t seed, int *statusp, char *why)
{
    static const int64_t sizes[] = { 0, 1, 2, 7 };
    struct op_bench b;
    struct psg_error err = { 0 };
    why[0] = '\0';
    *statusp = op_bench_open(&b, op, attrs, inputs, &err);
    if (*statusp)
        snprintf(why, WHY_SIZE, "refused: %s: %.300s", err.place, err.text);
    struct law l = { .b = &b, .be = be, .seed = seed, .why = why };
    bool ok = *statusp == 0;
    for (int i = 0; i < 4 && ok; i++)
        ok = laws_for(&l, sizes[i]);
    op_bench_close(&b);
    return ok;
}
