/* From nodes to steps: which values are views, which steps run, what each reads and writes.
 *
 * A view (reshape, transpose, broadcast, slice, reverse; full and iota too) costs nothing while
 * all its readers follow strides. It is copied once, where it is made, as soon as one reader
 * needs it dense. Results that are outputs are written into the caller's memory directly. */
#include "prim/exec.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct planner {
    struct psg_exec *e;
    const struct psg_graph *g;
    struct psg_error *err;
    bool *live;            /* [n_node] */
    bool *dense;           /* [n_value] some reader needs it dense */
    int *direct;           /* [n_value] output whose memory it is written to, or -1 */
    int *first_output;     /* [n_value] first output that is this value, or -1 */
    int *next_output;      /* [n_output] */
    bool *output_done;     /* [n_output] */
    struct prim_arg *rep;  /* [n_value] where it lies */
    int64_t fixed_used;
    int status;
};

static int fail_nomem(struct planner *p)
{
    return p->status = psg_fail(p->err, PSG_E_NOMEM, "", "out of memory");
}

static bool grow(void *arrayp, int *cap, int need, size_t elem)
{
    void **array = arrayp;
    if (need <= *cap)
        return true;
    if (need > INT_MAX / 2)
        return false;
    int want = *cap ? *cap : 32;
    while (want < need)
        want *= 2;
    void *q = reallocarray(*array, (size_t)want, elem);
    if (!q)
        return false;
    *array = q;
    *cap = want;
    return true;
}

static int new_buf(struct planner *p, enum exec_kind kind, int64_t bytes, void *fixed)
{
    struct psg_exec *e = p->e;
    if (!grow(&e->buf, &e->cap_buf, e->n_buf + 1, sizeof *e->buf)) {
        fail_nomem(p);
        return -1;
    }
    e->buf[e->n_buf] = (struct exec_buf){ .kind = kind, .bytes = bytes, .first = e->n_step,
                                          .last = e->n_step, .alias = -1, .fixed = fixed };
    return e->n_buf++;
}

static int64_t type_bytes(const struct psg_type *type)
{
    return psg_shape_size(&type->shape) * (int64_t)psg_dtype_size(type->dtype);
}

static void dense_arg(const struct psg_type *type, int buf, struct prim_arg *a)
{
    *a = (struct prim_arg){ .buf = buf, .type = type, .dense = true };
    prim_dense_strides(&type->shape, a->stride);
}

/* ---- what is needed ---- */

static void mark_needs(struct planner *p)
{
    const struct psg_graph *g = p->g;
    for (int j = 0; j < g->n_output; j++)
        p->live[g->value[g->output[j]].node] = true;
    for (int i = g->n_node - 1; i >= 0; i--) {
        const struct prim_node *n = &g->node[i];
        const psg_value *in = prim_in(g, n);
        for (int k = 0; p->live[i] && k < n->n_in; k++) {
            p->live[g->value[in[k]].node] = true;
            if (!prim_table[n->kind]->strided)
                p->dense[in[k]] = true;
        }
    }
}

static bool is_source(enum prim_kind kind)
{
    return kind == PRIM_INPUT || kind == PRIM_FULL || kind == PRIM_IOTA ||
           kind == PRIM_CONSTANT;
}

/* Each output's value, or what it is a reshape of, is made in the caller's memory; an output
 * that is an input or stands in the list twice is copied. */
static void assign_outputs(struct planner *p)
{
    const struct psg_graph *g = p->g;
    for (int j = g->n_output - 1; j >= 0; j--) {
        psg_value v = g->output[j];
        p->next_output[j] = p->first_output[v];
        p->first_output[v] = j;
    }
    for (int j = 0; j < g->n_output; j++) {
        psg_value v = g->output[j];
        while (prim_node_of(g, v)->kind == PRIM_RESHAPE)
            v = prim_in(g, prim_node_of(g, v))[0];
        const struct prim_node *n = prim_node_of(g, v);
        if (!is_source(n->kind) && !prim_table[n->kind]->view && p->direct[v] < 0) {
            p->direct[v] = j;
            p->output_done[j] = true;
        }
    }
}

/* ---- steps ---- */

/* Room for a step with its arguments, which are filled in by the caller. Arguments move when
 * the array grows: steps hold positions until the plan is finished. */
static struct prim_step *new_step(struct planner *p, const struct prim_node *node, int n_in,
                                  int n_out, struct prim_arg **argp)
{
    struct psg_exec *e = p->e;
    if (n_in > INT_MAX / 4 - n_out - e->n_arg ||
        !grow(&e->step, &e->cap_step, e->n_step + 1, sizeof *e->step) ||
        !grow(&e->arg, &e->cap_arg, e->n_arg + n_in + n_out, sizeof *e->arg)) {
        fail_nomem(p);
        return NULL;
    }
    struct prim_step *s = &e->step[e->n_step];
    *s = (struct prim_step){ .run = prim_table[node->kind]->run, .g = p->g, .node = node,
                             .n_in = n_in, .n_out = n_out, .scratch = -1 };
    *argp = e->arg + e->n_arg;
    e->n_arg += n_in + n_out;
    return s;
}

/* Ends a step: its buffers live at least to here; the primitive prepares itself. */
static void close_step(struct planner *p, struct prim_step *s, struct prim_arg *arg,
                       int (*plan)(struct prim_step *, const struct psg_backend *, int64_t *,
                                   struct psg_error *))
{
    struct psg_exec *e = p->e;
    int64_t scratch = 0;
    for (int i = 0; i < s->n_in + s->n_out; i++)
        e->buf[arg[i].buf].last = e->n_step;
    s->in = arg;
    s->out = arg + s->n_in;
    if (plan && !p->status)
        p->status = plan(s, e->ctx.be, &scratch, p->err);
    if (!p->status && scratch > 0)
        s->scratch = new_buf(p, EXEC_ARENA, scratch, NULL);
    e->n_step++;
}

struct copy_plan {
    struct psg_shape shape;
    size_t size;
    int64_t from[PSG_MAX_RANK], to[PSG_MAX_RANK];
};

static int copy_plan(struct prim_step *s, const struct psg_backend *be, int64_t *scratch,
                     struct psg_error *err)
{
    struct copy_plan *c = calloc(1, sizeof *c);
    (void)be;
    (void)scratch;
    if (!c)
        return psg_fail(err, PSG_E_NOMEM, s->node->place, "out of memory");
    c->shape = s->in[0].type->shape;
    c->size = psg_dtype_size(s->in[0].type->dtype);
    memcpy(c->from, s->in[0].stride, sizeof c->from);
    prim_dense_strides(&c->shape, c->to);
    if (psg_shape_size(&c->shape) > 0)
        prim_merge_axes(&c->shape, (int64_t *const[]){ c->from, c->to }, 2);
    s->plan = c;
    s->plan_size = sizeof *c;
    return 0;
}

static void copy_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct copy_plan *c = s->plan;
    if (prim_size(&s->in[0]) > 0)
        x->be->copy(&c->shape, c->size, prim_ptr(x, &s->in[0]), c->from, prim_ptr(x, &s->out[0]),
                    c->to);
}

static void fill_run(const struct prim_ctx *x, const struct prim_step *s)
{
    const struct attr_full *a = s->node->attr;
    x->be->fill(prim_size(&s->out[0]), (psg_real)a->value, prim_ptr(x, &s->out[0]));
}

/* Writes `from` in row-major order into buffer buf. */
static void copy_into(struct planner *p, const struct prim_node *node,
                      const struct prim_arg *from, int buf)
{
    struct prim_arg *arg, source = *from;
    bool fill = node->kind == PRIM_FULL;
    struct prim_step *s = buf < 0 ? NULL : new_step(p, node, 1, 1, &arg);
    if (!s)
        return;
    arg[0] = source;
    dense_arg(source.type, buf, &arg[1]);
    s->run = fill ? fill_run : copy_run;
    close_step(p, s, arg, fill ? NULL : copy_plan);
}

/* A buffer for value v: the caller's memory where that was assigned. */
static int result_buf(struct planner *p, psg_value v)
{
    if (p->direct[v] >= 0)
        return p->g->n_input + p->direct[v];
    return new_buf(p, EXEC_ARENA, type_bytes(prim_type(p->g, v)), NULL);
}

static void make_dense(struct planner *p, const struct prim_node *node, psg_value v)
{
    int buf = result_buf(p, v);
    copy_into(p, node, &p->rep[v], buf);
    if (buf >= 0)
        dense_arg(prim_type(p->g, v), buf, &p->rep[v]);
}

/* ---- values ---- */

/* What comes after `bytes` fixed ones is aligned for every type. */
static int64_t fixed_room(int64_t bytes)
{
    return (bytes + 7) / 8 * 8;
}

static void plan_fixed(struct planner *p, const struct prim_node *n)
{
    const struct psg_type *type = prim_type(p->g, n->out);
    struct prim_arg *a = &p->rep[n->out];
    psg_real *at = (psg_real *)(void *)(p->e->fixed + p->fixed_used);
    *a = (struct prim_arg){ .type = type };
    if (n->kind == PRIM_CONSTANT) {
        void *data = (void *)(uintptr_t)n->attr;
        if (p->e->ctx.be->device_memory) {
            data = memcpy(p->e->fixed + p->fixed_used, n->attr, n->attr_size);
            p->fixed_used += fixed_room((int64_t)n->attr_size);
        }
        dense_arg(type, new_buf(p, EXEC_FIXED, 0, data), a);
        return;
    }
    int64_t count = 1;
    if (n->kind == PRIM_FULL) {
        *at = (psg_real)((const struct attr_full *)n->attr)->value;
    } else {
        int axis = ((const struct attr_axis *)n->attr)->axis;
        count = type->shape.dim[axis];
        for (int64_t i = 0; i < count; i++)
            at[i] = (psg_real)i;
        a->stride[axis] = count > 1;
    }
    p->fixed_used += fixed_room(count * (int64_t)sizeof *at);
    a->buf = new_buf(p, EXEC_FIXED, 0, at);
    a->dense = prim_is_dense(&type->shape, a->stride);
    if (p->dense[n->out] && !a->dense)
        make_dense(p, n, n->out);
}

static void plan_view(struct planner *p, const struct prim_node *n)
{
    const struct prim_arg *in = &p->rep[prim_in(p->g, n)[0]];
    struct prim_arg *out = &p->rep[n->out];
    *out = (struct prim_arg){ .buf = in->buf, .offset = in->offset,
                              .type = prim_type(p->g, n->out) };
    if (!prim_table[n->kind]->view_of(p->g, n, in, out)) {
        int buf = result_buf(p, n->out);
        copy_into(p, n, in, buf);
        if (buf >= 0)
            dense_arg(prim_type(p->g, n->out), buf, out);
        return;
    }
    for (int i = 0; i < out->type->shape.rank; i++)
        if (out->type->shape.dim[i] == 1)
            out->stride[i] = 0;
    out->dense = prim_is_dense(&out->type->shape, out->stride);
    if (p->dense[n->out] && !out->dense)
        make_dense(p, n, n->out);
}

static void plan_compute(struct planner *p, const struct prim_node *n)
{
    struct prim_arg *arg;
    const psg_value *in = prim_in(p->g, n);
    for (int i = 0; i < n->n_out; i++) {
        int buf = result_buf(p, n->out + i);
        if (buf < 0)
            return;
        dense_arg(prim_type(p->g, n->out + i), buf, &p->rep[n->out + i]);
    }
    struct prim_step *s = new_step(p, n, n->n_in, n->n_out, &arg);
    if (!s)
        return;
    for (int i = 0; i < n->n_in; i++)
        arg[i] = p->rep[in[i]];
    for (int i = 0; i < n->n_out; i++)
        arg[n->n_in + i] = p->rep[n->out + i];
    close_step(p, s, arg, prim_table[n->kind]->plan);
}

static void plan_node(struct planner *p, const struct prim_node *n)
{
    if (is_source(n->kind)) {
        if (n->kind != PRIM_INPUT)
            plan_fixed(p, n);
    } else if (prim_table[n->kind]->view) {
        plan_view(p, n);
    } else {
        plan_compute(p, n);
    }
    for (int i = 0; i < n->n_out && !p->status; i++)
        for (int j = p->first_output[n->out + i]; j >= 0 && !p->status; j = p->next_output[j])
            if (!p->output_done[j])
                copy_into(p, n, &p->rep[n->out + i], p->g->n_input + j);
}

/* Bytes of all fulls and iotas, and of constants where the host's are out of reach. */
static int64_t fixed_bytes(const struct planner *p)
{
    const int64_t size = sizeof(psg_real);
    int64_t n = 0;
    for (int i = 0; i < p->g->n_node; i++) {
        const struct prim_node *node = &p->g->node[i];
        if (p->live[i] && node->kind == PRIM_FULL)
            n += fixed_room(size);
        if (p->live[i] && node->kind == PRIM_CONSTANT && p->e->ctx.be->device_memory)
            n += fixed_room((int64_t)node->attr_size);
        if (p->live[i] && node->kind == PRIM_IOTA) {
            int axis = ((const struct attr_axis *)node->attr)->axis;
            n += fixed_room(prim_shape(p->g, node->out)->dim[axis] * size);
        }
    }
    return n;
}

static int plan_nodes(struct planner *p)
{
    const struct psg_graph *g = p->g;
    struct psg_exec *e = p->e;
    for (int i = 0; i < g->n_input && !p->status; i++) {
        int buf = new_buf(p, EXEC_INPUT, 0, NULL);
        dense_arg(prim_type(g, g->input[i]), buf, &p->rep[g->input[i]]);
    }
    for (int j = 0; j < g->n_output && !p->status; j++)
        new_buf(p, EXEC_OUTPUT, 0, NULL);
    mark_needs(p);
    assign_outputs(p);
    int64_t fixed = fixed_bytes(p);
    e->fixed = malloc((size_t)fixed + 1);
    if (!e->fixed)
        return fail_nomem(p);
    e->fixed_size = (size_t)fixed;
    e->bytes += (size_t)fixed + 1;
    for (int i = 0; i < g->n_node && !p->status; i++)
        if (p->live[i])
            plan_node(p, &g->node[i]);
    return p->status;
}

int exec_plan(struct psg_exec *e, struct psg_error *err)
{
    const struct psg_graph *g = e->g;
    size_t nv = (size_t)g->n_value + 1, no = (size_t)g->n_output + 1;
    struct planner p = { .e = e, .g = g, .err = err };
    p.live = calloc((size_t)g->n_node + 1, sizeof *p.live);
    p.dense = calloc(nv, sizeof *p.dense);
    p.direct = malloc(nv * sizeof *p.direct);
    p.first_output = malloc(nv * sizeof *p.first_output);
    p.next_output = malloc(no * sizeof *p.next_output);
    p.output_done = calloc(no, sizeof *p.output_done);
    p.rep = calloc(nv, sizeof *p.rep);
    if (!p.live || !p.dense || !p.direct || !p.first_output || !p.next_output ||
        !p.output_done || !p.rep) {
        fail_nomem(&p);
    } else {
        for (size_t i = 0; i < nv; i++)
            p.direct[i] = p.first_output[i] = -1;
        plan_nodes(&p);
    }
    free(p.live);
    free(p.dense);
    free(p.direct);
    free(p.first_output);
    free(p.next_output);
    free(p.output_done);
    free(p.rep);
    return p.status;
}
