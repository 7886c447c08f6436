#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program/program.h"

enum { OUTS_MAX = 8, RANGES_MAX = 4 };

int psg_infer_fail(struct psg_infer *c, enum psg_status status, const char *attr,
                   const char *fmt, ...)
{
    struct psg_infer_state *s = c->state;
    if (s->status)
        return s->status;
    char text[320], place[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(place, sizeof place, "%s%s%s", s->path, attr ? "." : "", attr ? attr : "");
    s->status = psg_fail(s->err, status, place, "%s: %s", s->op->name, text);
    return s->status;
}

int psg_infer_status(const struct psg_infer *c)
{
    return c->state->status;
}

const struct psg_op *psg_infer_op(const struct psg_infer *c)
{
    return c->state->op;
}

bool psg_infer_has(const struct psg_infer *c, const char *name)
{
    return attrs_find(c->state->attrs, name) != NULL;
}

unsigned psg_infer_kind(const struct psg_infer *c, const char *name)
{
    const struct attr *a = attrs_find(c->state->attrs, name);
    return a ? a->kind : 0;
}

static bool in_range(struct psg_infer *c, const char *name, int64_t v, int64_t lo, int64_t hi)
{
    if (v >= lo && v <= hi)
        return true;
    if (hi == INT64_MAX)
        psg_infer_fail(c, PSG_E_RANGE, name, "%s is %lld, must be at least %lld", name,
                       (long long)v, (long long)lo);
    else
        psg_infer_fail(c, PSG_E_RANGE, name, "%s is %lld, must be from %lld to %lld", name,
                       (long long)v, (long long)lo, (long long)hi);
    return false;
}

int64_t psg_infer_int(struct psg_infer *c, const char *name, int64_t dflt, int64_t lo,
                      int64_t hi)
{
    const struct attr *a = attrs_find(c->state->attrs, name);
    if (!a || c->state->status)
        return dflt;
    if (a->kind != PSG_ATTR_INT) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s must be an integer", name);
        return dflt;
    }
    return in_range(c, name, a->u.i, lo, hi) ? a->u.i : dflt;
}

static void missing(struct psg_infer *c, const char *name)
{
    psg_infer_fail(c, PSG_E_INVALID, name, "%s is missing", name);
}

int64_t psg_infer_int_required(struct psg_infer *c, const char *name, int64_t lo, int64_t hi)
{
    if (!psg_infer_has(c, name))
        missing(c, name);
    return psg_infer_int(c, name, lo, lo, hi);
}

double psg_infer_real(struct psg_infer *c, const char *name, double dflt, double lo, double hi)
{
    const struct attr *a = attrs_find(c->state->attrs, name);
    if (!a || c->state->status)
        return dflt;
    if (a->kind != PSG_ATTR_INT && a->kind != PSG_ATTR_REAL) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s must be a number", name);
        return dflt;
    }
    double v = a->kind == PSG_ATTR_INT ? (double)a->u.i : a->u.r;
    if (!(v >= lo && v <= hi)) {
        psg_infer_fail(c, PSG_E_RANGE, name, "%s is %g, must be from %g to %g", name, v, lo, hi);
        return dflt;
    }
    return v;
}

bool psg_infer_bool(struct psg_infer *c, const char *name, bool dflt)
{
    const struct attr *a = attrs_find(c->state->attrs, name);
    if (!a || c->state->status)
        return dflt;
    if (a->kind != PSG_ATTR_BOOL) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s must be true or false", name);
        return dflt;
    }
    return a->u.b;
}

const char *psg_infer_string(struct psg_infer *c, const char *name, const char *dflt)
{
    const struct attr *a = attrs_find(c->state->attrs, name);
    if (!a || c->state->status)
        return dflt;
    if (a->kind != PSG_ATTR_STRING) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s must be a string", name);
        return dflt;
    }
    return a->u.s;
}

/* Position of word in "a|b|c", or -1. */
static int choice_find(const char *choices, const char *word)
{
    size_t len = strlen(word);
    for (int i = 0;; i++) {
        const char *end = strchrnul(choices, '|');
        if ((size_t)(end - choices) == len && memcmp(choices, word, len) == 0)
            return i;
        if (!*end)
            return -1;
        choices = end + 1;
    }
}

int psg_infer_choice(struct psg_infer *c, const char *name, const char *dflt,
                     const char *choices)
{
    const char *word = psg_infer_string(c, name, dflt);
    int at = choice_find(choices, word);
    if (at < 0) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s must be one of %s", name, choices);
        at = choice_find(choices, dflt);
    }
    return at;
}

int psg_infer_int_list(struct psg_infer *c, const char *name, int max, int64_t *out)
{
    const struct attr *a = attrs_find(c->state->attrs, name);
    if (c->state->status)
        return -1;
    if (!a)
        return 0;
    if (a->kind == PSG_ATTR_INT && max >= 1) {
        out[0] = a->u.i;
        return 1;
    }
    if (a->kind != PSG_ATTR_INTS) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s must be an integer or a list of integers",
                       name);
        return -1;
    }
    if (a->n > max) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s has %d numbers, at most %d fit", name, a->n,
                       max);
        return -1;
    }
    memcpy(out, a->u.ints, (size_t)a->n * sizeof *out);
    return a->n;
}

int psg_infer_real_list(struct psg_infer *c, const char *name, int max, double *out)
{
    const struct attr *a = attrs_find(c->state->attrs, name);
    if (c->state->status)
        return -1;
    if (!a)
        return 0;
    bool ints = a->kind == PSG_ATTR_INTS, reals = a->kind == PSG_ATTR_REALS;
    if (!ints && !reals) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s must be a list of numbers", name);
        return -1;
    }
    if (a->n > max) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s has %d numbers, at most %d fit", name, a->n,
                       max);
        return -1;
    }
    for (int i = 0; i < a->n; i++)
        out[i] = ints ? (double)a->u.ints[i] : a->u.reals[i];
    return a->n;
}

void psg_infer_ints(struct psg_infer *c, const char *name, int n, const int64_t *dflt,
                    int64_t lo, int64_t hi, int64_t *out)
{
    const struct attr *a = attrs_find(c->state->attrs, name);
    for (int i = 0; i < n; i++)
        out[i] = dflt ? dflt[i] : lo;
    if (c->state->status)
        return;
    if (!a) {
        if (!dflt)
            missing(c, name);
        return;
    }
    bool one = a->kind == PSG_ATTR_INT || (a->kind == PSG_ATTR_INTS && a->n == 1);
    if (!one && (a->kind != PSG_ATTR_INTS || a->n != n)) {
        psg_infer_fail(c, PSG_E_INVALID, name, "%s must be an integer or a list of %d", name, n);
        return;
    }
    for (int i = 0; i < n; i++) {
        int64_t v = a->kind == PSG_ATTR_INT ? a->u.i : a->u.ints[one ? 0 : i];
        if (!in_range(c, name, v, lo, hi))
            return;
        out[i] = v;
    }
}

int psg_infer_param(struct psg_infer *c, const char *role, const struct psg_shape *shape,
                    struct psg_init init)
{
    struct psg_infer_state *s = c->state;
    if (s->status)
        return 0;
    if (psg_shape_size(shape) < 0) {
        psg_infer_fail(c, PSG_E_SHAPE, role, "the parameter is too large");
        return 0;
    }
    struct infer_param *list = realloc(s->params, ((size_t)s->n_params + 1) * sizeof *list);
    if (!list) {
        psg_infer_fail(c, PSG_E_NOMEM, NULL, "out of memory");
        return 0;
    }
    s->params = list;
    struct infer_param *p = &list[s->n_params];
    *p = (struct infer_param){ .shape = *shape, .init = init };
    snprintf(p->role, sizeof p->role, "%s", role);
    return s->n_params++;
}

int psg_infer_out(struct psg_infer *c, enum psg_dtype dtype, const struct psg_shape *shape)
{
    struct psg_infer_state *s = c->state;
    if (s->status)
        return 0;
    if (s->n_outs == OUTS_MAX)
        psg_infer_fail(c, PSG_E_UNSUPPORTED, NULL, "more than %d outputs", OUTS_MAX);
    else if (psg_shape_size(shape) < 0)
        psg_infer_fail(c, PSG_E_SHAPE, NULL, "the output is too large");
    else
        s->outs[s->n_outs++] = (struct psg_type){ dtype, *shape };
    return s->n_outs - 1;
}

static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void psg_infer_save(struct psg_infer *c, int64_t n_real, int64_t n_i64)
{
    c->state->save_real = max_i64(c->state->save_real, n_real);
    c->state->save_i64 = max_i64(c->state->save_i64, n_i64);
}

void psg_infer_scratch(struct psg_infer *c, int64_t fixed, int64_t per_sample)
{
    c->state->scratch_fixed = max_i64(c->state->scratch_fixed, fixed);
    c->state->scratch = max_i64(c->state->scratch, per_sample);
}

void psg_infer_tile(struct psg_infer *c, int64_t n)
{
    c->state->tile = max_i64(c->state->tile, n);
}

void psg_infer_unread(struct psg_infer *c, bool in, bool out)
{
    c->state->unread_in |= in;
    c->state->unread_out |= out;
}

void psg_infer_random(struct psg_infer *c, int64_t per_sample)
{
    c->state->random = per_sample;
}

void psg_infer_index_range(struct psg_infer *c, int slot, int64_t lo, int64_t hi)
{
    struct psg_infer_state *s = c->state;
    if (s->n_ranges == RANGES_MAX) {
        psg_infer_fail(c, PSG_E_UNSUPPORTED, NULL, "more than %d index ranges", RANGES_MAX);
        return;
    }
    s->ranges[s->n_ranges].slot = slot;
    s->ranges[s->n_ranges].lo = lo;
    s->ranges[s->n_ranges].hi = hi;
    s->n_ranges++;
}

/* Every attribute that was given is one that the op knows, of a kind that it takes. */
static void check_names(struct psg_infer *c)
{
    const struct psg_infer_state *s = c->state;
    for (int i = 0; s->attrs && i < s->attrs->n; i++) {
        const struct attr *a = &s->attrs->list[i];
        const struct psg_attr_spec *spec = s->op->attrs;
        while (spec && spec->name && strcmp(spec->name, a->name) != 0)
            spec++;
        if (!spec || !spec->name) {
            psg_infer_fail(c, PSG_E_INVALID, a->name, "unknown attribute %s", a->name);
            return;
        }
        unsigned kinds = spec->kinds;
        if (kinds & PSG_ATTR_REAL)
            kinds |= PSG_ATTR_INT;
        if (kinds & PSG_ATTR_REALS)
            kinds |= PSG_ATTR_INTS;
        if (!(kinds & a->kind)) {
            psg_infer_fail(c, PSG_E_INVALID, a->name, "%s has the wrong kind of value: %s",
                           a->name, spec->doc ? spec->doc : "see the documentation");
            return;
        }
        bool finite = true;
        if (a->kind == PSG_ATTR_REAL)
            finite = isfinite(a->u.r);
        for (int j = 0; a->kind == PSG_ATTR_REALS && j < a->n; j++)
            finite = finite && isfinite(a->u.reals[j]);
        if (!finite) {
            psg_infer_fail(c, PSG_E_RANGE, a->name, "%s is not a finite number", a->name);
            return;
        }
    }
}

int infer_check_names(struct psg_infer_state *state)
{
    struct psg_infer c = { .state = state };
    check_names(&c);
    return state->status;
}

int infer_run(struct psg_infer_state *state, const struct psg_type *in, int n_in, void *geom)
{
    struct psg_infer c = { .n_in = n_in, .in = in, .geom = geom, .state = state };
    const struct psg_op *op = state->op;
    check_names(&c);
    if (n_in < op->n_in_min || n_in > op->n_in_max) {
        if (op->n_in_min == op->n_in_max)
            psg_infer_fail(&c, PSG_E_INVALID, NULL, "has %d inputs, takes %d", n_in,
                           op->n_in_min);
        else
            psg_infer_fail(&c, PSG_E_INVALID, NULL, "has %d inputs, takes %d to %d", n_in,
                           op->n_in_min, op->n_in_max);
    }
    if (state->status)
        return state->status;
    int r = op->infer(&c);
    if (r == 0)
        r = state->status;
    if (r == 0 && state->n_outs == 0)
        r = psg_infer_fail(&c, PSG_E_INVALID, NULL, "declared no output");
    return r;
}
