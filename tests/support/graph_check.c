#include "graph_check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 8 }; /* words on each side */
static const uint64_t guard_word = UINT64_C(0xfeedfacecafebeef);

/* ---- random numbers: splitmix64 ---- */

uint64_t gen_next(struct gen *g)
{
    uint64_t z = g->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

struct gen gen_make(uint64_t seed, int max_dim, int max_rank)
{
    return (struct gen){ seed * UINT64_C(0x2545f4914f6cdd1d) + 1, max_dim, max_rank };
}

int64_t gen_int(struct gen *g, int64_t lo, int64_t hi)
{
    return lo + (int64_t)(gen_next(g) % (uint64_t)(hi - lo));
}

double gen_real(struct gen *g, double lo, double hi)
{
    return lo + (hi - lo) * ((double)(gen_next(g) >> 11) * 0x1p-53);
}

struct psg_shape gen_shape(struct gen *g, int min_rank)
{
    struct psg_shape s = { .rank = min_rank };
    if (g->max_rank > min_rank)
        s.rank = (int)gen_int(g, min_rank, g->max_rank + 1);
    for (int i = 0; i < s.rank; i++)
        s.dim[i] = gen_int(g, 1, g->max_dim + 1);
    return s;
}

/* ---- values ---- */

static size_t type_bytes(const struct psg_type *t)
{
    return (size_t)psg_shape_size(&t->shape) * psg_dtype_size(t->dtype);
}

static void *guarded(size_t bytes)
{
    uint64_t *p = malloc(bytes + 2 * GUARD * sizeof *p);
    if (!p)
        abort();
    for (int i = 0; i < GUARD; i++) {
        p[i] = guard_word;
        memcpy((char *)(p + GUARD) + bytes + (size_t)i * sizeof *p, &guard_word, sizeof *p);
    }
    memset(p + GUARD, 0xa5, bytes);
    return p + GUARD;
}

static bool guards_free(void *at, size_t bytes)
{
    uint64_t *p = (uint64_t *)at - GUARD;
    bool whole = true;
    for (int i = 0; i < GUARD; i++)
        whole &= p[i] == guard_word && memcmp((char *)at + bytes + (size_t)i * sizeof *p,
                                              &guard_word, sizeof *p) == 0;
    free(p);
    return whole;
}

static struct values values_make(const struct psg_graph *g, int n,
                                 psg_value (*at)(const struct psg_graph *, int))
{
    struct values v = { .n = n };
    v.at = calloc((size_t)n + 1, sizeof *v.at);
    v.type = calloc((size_t)n + 1, sizeof *v.type);
    for (int i = 0; i < n; i++) {
        v.type[i] = *psg_graph_type(g, at(g, i));
        v.at[i] = guarded(type_bytes(&v.type[i]));
    }
    return v;
}

struct values values_of_inputs(const struct psg_graph *g)
{
    return values_make(g, psg_graph_n_inputs(g), psg_graph_input_at);
}

struct values values_of_outputs(const struct psg_graph *g)
{
    return values_make(g, psg_graph_n_outputs(g), psg_graph_output_at);
}

void values_draw(struct values *v, struct gen *g, double lo, double hi)
{
    for (int i = 0; i < v->n; i++)
        for (int64_t k = 0, n = psg_shape_size(&v->type[i].shape); k < n; k++) {
            if (v->type[i].dtype == PSG_I64)
                ((int64_t *)v->at[i])[k] = gen_int(g, -1, 7);
            else
                ((psg_real *)v->at[i])[k] = (psg_real)gen_real(g, lo, hi);
        }
}

bool values_free(struct values *v)
{
    bool whole = true;
    for (int i = 0; i < v->n; i++)
        whole &= guards_free(v->at[i], type_bytes(&v->type[i]));
    free(v->at);
    free(v->type);
    *v = (struct values){ 0 };
    return whole;
}

/* ---- running and comparing ---- */

bool complain(struct complaint *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->text, sizeof c->text, fmt, args);
    va_end(args);
    return false;
}

bool graph_run(const struct psg_graph *g, const struct values *in, struct values *out,
               struct complaint *c)
{
    struct psg_exec *e;
    struct psg_error err = { 0 };
    if (psg_exec_new(g, psg_backend_ref(), &e, &err))
        return complain(c, "exec: %s", err.text);
    psg_exec_run(e, (const void *const *)in->at, out->at);
    psg_exec_free(e);
    return true;
}

static bool close_to(double a, double b, double tol)
{
    return (isnan(a) && isnan(b)) || a == b || fabs(a - b) <= tol * (1 + fabs(a) + fabs(b));
}

/* n elements of two tensors of one type. */
static bool same_elements(const struct psg_type *t, const void *a, const void *b, int64_t n,
                          double tol, const char *what, int which, struct complaint *c)
{
    for (int64_t i = 0; i < n; i++) {
        double x = t->dtype == PSG_I64 ? (double)((const int64_t *)a)[i]
                                       : (double)((const psg_real *)a)[i];
        double y = t->dtype == PSG_I64 ? (double)((const int64_t *)b)[i]
                                       : (double)((const psg_real *)b)[i];
        if (!close_to(x, y, tol))
            return complain(c, "%s: output %d element %lld is %.12g, expected %.12g", what,
                            which, (long long)i, x, y);
    }
    return true;
}

bool check_same(const struct psg_graph *a, const struct psg_graph *b, const struct values *in,
                const char *what, struct complaint *c)
{
    struct values x = values_of_outputs(a), y = values_of_outputs(b);
    bool ok = x.n == y.n && graph_run(a, in, &x, c) && graph_run(b, in, &y, c);
    for (int j = 0; ok && j < x.n; j++)
        ok = (psg_shape_equal(&x.type[j].shape, &y.type[j].shape) ||
              complain(c, "%s: output %d has another shape", what, j)) &&
             same_elements(&x.type[j], x.at[j], y.at[j], psg_shape_size(&x.type[j].shape),
                           1e-9, what, j, c);
    if (!values_free(&x) || !values_free(&y))
        ok = complain(c, "%s: wrote past an output", what);
    return ok;
}

/* ---- reverse mode ---- */

/* sum over real outputs of weight * output */
static double weighted(const struct values *out, const struct values *weight)
{
    double sum = 0;
    for (int j = 0; j < out->n; j++)
        for (int64_t k = 0, n = psg_shape_size(&out->type[j].shape); k < n; k++)
            if (out->type[j].dtype == PSG_REAL)
                sum += (double)((psg_real *)out->at[j])[k] *
                       (double)((psg_real *)weight->at[j])[k];
    return sum;
}

static void shift(struct values *x, const struct values *from, const struct values *dir,
                  double h)
{
    for (int i = 0; i < x->n; i++)
        for (int64_t k = 0, n = psg_shape_size(&x->type[i].shape); k < n; k++) {
            if (x->type[i].dtype == PSG_I64)
                ((int64_t *)x->at[i])[k] = ((int64_t *)from->at[i])[k];
            else
                ((psg_real *)x->at[i])[k] = (psg_real)((double)((psg_real *)from->at[i])[k] +
                                                       h * (double)((psg_real *)dir->at[i])[k]);
        }
}

/* (f(x + h v) - f(x - h v)) / 2h, weighted by the cotangents */
static bool numeric_slope(const struct psg_graph *g, const struct values *in,
                          const struct values *dir, const struct values *ct, double *slope,
                          struct complaint *c)
{
    const double h = 1e-5;
    struct values x = values_of_inputs(g), y = values_of_outputs(g);
    double side[2];
    bool ok = true;
    for (int s = 0; s < 2 && ok; s++) {
        shift(&x, in, dir, s ? -h : h);
        ok = graph_run(g, &x, &y, c);
        side[s] = ok ? weighted(&y, ct) : 0;
    }
    *slope = ok ? (side[0] - side[1]) / (2 * h) : 0;
    if (!values_free(&x) || !values_free(&y))
        ok = complain(c, "wrote past an output");
    return ok;
}

/* Inputs of the vjp graph: those of g, then the cotangents. */
static bool vjp_slope(const struct psg_graph *v, const struct values *in,
                      const struct values *dir, const struct values *ct, double *slope,
                      struct complaint *c)
{
    struct values x = values_of_inputs(v), y = values_of_outputs(v);
    for (int i = 0; i < x.n; i++) {
        const struct values *from = i < in->n ? in : ct;
        memcpy(x.at[i], from->at[i < in->n ? i : i - in->n], type_bytes(&x.type[i]));
    }
    bool ok = graph_run(v, &x, &y, c);
    double sum = 0;
    for (int i = 0, j = 0; ok && i < in->n; i++) {
        if (in->type[i].dtype != PSG_REAL)
            continue;
        for (int64_t k = 0, n = psg_shape_size(&in->type[i].shape); k < n; k++)
            sum += (double)((psg_real *)y.at[j])[k] * (double)((psg_real *)dir->at[i])[k];
        j++;
    }
    *slope = sum;
    if (!values_free(&x) || !values_free(&y))
        ok = complain(c, "vjp: wrote past an output");
    return ok;
}

static struct psg_graph *vjp_of_all(const struct psg_graph *g, struct complaint *c)
{
    struct psg_error err = { 0 };
    int wrt[64], n = 0;
    for (int i = 0; i < psg_graph_n_inputs(g); i++)
        if (psg_graph_type(g, psg_graph_input_at(g, i))->dtype == PSG_REAL)
            wrt[n++] = i;
    struct psg_graph *v = psg_graph_vjp(g, wrt, n, &err);
    if (!v)
        complain(c, "vjp: %s", err.text);
    return v;
}

/* Cotangents have the shapes of the outputs and are all real. */
static struct values cotangents(const struct psg_graph *v, int first)
{
    struct values all = values_of_inputs(v), ct = { .n = all.n - first };
    ct.at = calloc((size_t)ct.n + 1, sizeof *ct.at);
    ct.type = calloc((size_t)ct.n + 1, sizeof *ct.type);
    for (int i = 0; i < ct.n; i++) {
        ct.type[i] = all.type[first + i];
        ct.at[i] = guarded(type_bytes(&ct.type[i]));
    }
    values_free(&all);
    return ct;
}

static bool check_slopes(const struct psg_graph *g, const struct psg_graph *v,
                         const struct values *in, const struct values *ct, struct gen *gen,
                         int order, struct complaint *c)
{
    struct values dir = values_of_inputs(g);
    bool ok = true;
    for (int trial = 0; trial < 2 && ok; trial++) {
        double want, have;
        values_draw(&dir, gen, -1, 1);
        ok = numeric_slope(g, in, &dir, ct, &want, c) &&
             vjp_slope(v, in, &dir, ct, &have, c) &&
             (close_to(have, want, 3e-6) ||
              complain(c, "order %d: vjp gives slope %.10g, differences %.10g", order, have,
                       want));
    }
    values_free(&dir);
    return ok;
}

bool check_vjp(const struct psg_graph *g, const struct values *in, struct gen *gen, int order,
               struct complaint *c)
{
    const struct psg_graph *f = g;
    struct psg_graph *owned = NULL;
    struct values x = values_of_inputs(g);
    bool ok = true;
    for (int i = 0; i < x.n; i++)
        memcpy(x.at[i], in->at[i], type_bytes(&x.type[i]));
    for (int k = 1; k <= order && ok; k++) {
        struct psg_graph *v = vjp_of_all(f, c);
        if (!v) {
            ok = false;
            break;
        }
        struct values ct = cotangents(v, x.n), next = values_of_inputs(v);
        values_draw(&ct, gen, -1, 1);
        ok = check_slopes(f, v, &x, &ct, gen, k, c);
        for (int i = 0; i < next.n; i++)
            memcpy(next.at[i], i < x.n ? x.at[i] : ct.at[i - x.n], type_bytes(&next.type[i]));
        values_free(&ct);
        values_free(&x);
        x = next;
        psg_graph_free(owned);
        f = owned = v;
    }
    psg_graph_free(owned);
    values_free(&x);
    return ok;
}

/* ---- batching ---- */

static bool loop_matches(const struct psg_graph *g, const struct values *in, const bool *on,
                         const struct values *out, int64_t n, struct complaint *c)
{
    struct values x = values_of_inputs(g), y = values_of_outputs(g);
    bool ok = true;
    for (int64_t s = 0; s < n && ok; s++) {
        for (int i = 0; i < x.n; i++) {
            size_t bytes = type_bytes(&x.type[i]);
            memcpy(x.at[i], (char *)in->at[i] + (on[i] ? (size_t)s * bytes : 0), bytes);
        }
        ok = graph_run(g, &x, &y, c);
        for (int j = 0; ok && j < y.n; j++)
            ok = same_elements(&y.type[j], (char *)out->at[j] + (size_t)s * type_bytes(&y.type[j]),
                               y.at[j], psg_shape_size(&y.type[j].shape), 1e-9, "vmap", j, c);
    }
    if (!values_free(&x) || !values_free(&y))
        ok = complain(c, "wrote past an output");
    return ok;
}

bool check_vmap(const struct psg_graph *g, int64_t n, struct gen *gen, double lo, double hi,
                struct complaint *c)
{
    struct psg_error err = { 0 };
    bool on[64], any = false;
    int n_in = psg_graph_n_inputs(g);
    for (int i = 0; i < n_in; i++)
        any |= on[i] = gen_int(gen, 0, 2);
    if (!any)
        on[gen_int(gen, 0, n_in)] = true;
    struct psg_graph *v = psg_graph_vmap(g, n, on, &err);
    struct psg_graph *s = v ? psg_graph_simplify(v, &err) : NULL;
    bool ok = s ? true : complain(c, "vmap: %s", err.text);
    if (ok) {
        struct values in = values_of_inputs(v), out = values_of_outputs(v);
        values_draw(&in, gen, lo, hi);
        for (int j = 0; j < out.n && ok; j++)
            if (out.type[j].shape.rank < 1 || out.type[j].shape.dim[0] != n)
                ok = complain(c, "vmap: output %d has no batch axis", j);
        ok = ok && graph_run(v, &in, &out, c) && loop_matches(g, &in, on, &out, n, c) &&
             check_same(s, v, &in, "simplify", c);
        values_free(&in);
        if (!values_free(&out))
            ok = complain(c, "vmap: wrote past an output");
    }
    psg_graph_free(v);
    psg_graph_free(s);
    return ok;
}
