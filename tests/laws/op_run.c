#include "op_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attrs_text.h"
#include "base/cleanup.h"

/* ---- cases ---- */
/* "3x4", "-", "+3x4" (positive numbers), "i64<10:6" */
static int parse_input(struct op_bench *b, const char *word)
{
    int i = b->n_in;
    if (i == OP_IO_MAX)
        return PSG_E_INVALID;
    b->in[i].dtype = PSG_REAL;
    if (strncmp(word, "i64<", 4) == 0) {
        char *end;
        b->in[i].dtype = PSG_I64;
        b->in[i].below = strtoll(word + 4, &end, 10);
        word = end + 1;
    } else if (*word == '+') {
        b->in[i].positive = true;
        word++;
    }
    struct psg_shape shape = { 0 };
    while (*word && *word != '-') {
        char *end;
        shape.dim[shape.rank++] = strtoll(word, &end, 10);
        word = *end == 'x' ? end + 1 : end;
        if (shape.rank == PSG_MAX_RANK || (*end && *end != 'x'))
            return PSG_E_INVALID;
    }
    b->in[i].shape = shape;
    b->in[i].size = psg_shape_size(&shape);
    b->n_in++;
    return 0;
}

static int add_inputs(struct op_bench *b, const char *inputs, psg_value *value,
                      struct psg_error *err)
{
    _cleanup_free_ char *copy = strdup(inputs);
    char *save = NULL, name[8];
    if (!copy)
        return PSG_E_NOMEM;
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        int i = b->n_in, r = parse_input(b, word);
        if (r)
            return psg_fail(err, r, inputs, "the case's inputs are malformed");
        snprintf(name, sizeof name, "in%d", i);
        r = psg_program_input(b->program, name, b->in[i].dtype, &b->in[i].shape, &value[i],
                              err);
        if (r)
            return r;
    }
    return 0;
}

static void read_node(struct op_bench *b)
{
    const struct psg_program *p = b->program;
    b->node = &p->nodes[0];
    b->n_out = b->node->n_out;
    b->n_param = b->node->n_param;
    for (int j = 0; j < b->n_out; j++)
        b->out_size[j] = psg_shape_size(&p->values[b->node->out[j]].type.shape);
    for (int r = 0; r < b->n_param; r++) {
        b->param_shape[r] = p->params[b->node->param[r].param].info.shape;
        b->param_size[r] = psg_shape_size(&b->param_shape[r]);
        b->param_at[r] = b->n_coord;
        b->n_coord += b->param_size[r];
    }
}

int op_bench_open(struct op_bench *b, const struct psg_op *op, const char *attrs,
                  const char *inputs, struct psg_error *err)
{
    *b = (struct op_bench){ .op = op, .program = psg_program_new() };
    _cleanup_(psg_attrs_freep) struct psg_attrs *a = attrs_from_text(attrs);
    psg_value in[OP_IO_MAX], out[OP_IO_MAX];
    int n_out;
    if (!b->program || !a)
        return psg_fail(err, PSG_E_INVALID, attrs, "the case's attributes are malformed");
    int r = add_inputs(b, inputs, in, err);
    if (r == 0)
        r = psg_program_add_op(b->program, op, "op", in, b->n_in, a, NULL, 0, out, &n_out,
                               err);
    if (r == 0)
        read_node(b);
    return r;
}

void op_bench_close(struct op_bench *b)
{
    b->program = psg_program_free(b->program);
}

/* ---- batches ---- */
static uint64_t next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u; /* splitmix64 (Steele et al. 2014) */
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static psg_real *reals(int64_t n, double low, double high, uint64_t *state)
{
    psg_real *x = calloc((size_t)n + 1, sizeof *x);
    for (int64_t i = 0; x && i < n; i++) {
        /* a number that both float builds hold exactly */
        double u = ((double)(next(state) >> 41) + 0.5) / (double)(1 << 23);
        x[i] = (psg_real)(float)(low + (high - low) * u);
    }
    return x;
}

static int64_t *ids(int64_t n, int64_t below, uint64_t *state)
{
    int64_t *x = calloc((size_t)n + 1, sizeof *x);
    for (int64_t i = 0; x && i < n; i++)
        x[i] = (int64_t)(next(state) % (uint64_t)below);
    return x;
}

int op_batch_open(struct op_batch *batch, const struct op_bench *b, int64_t n,
                  uint64_t seed)
{
    *batch = (struct op_batch){ .n = n };
    bool ok = true;
    for (int i = 0; i < b->n_in; i++) {
        int64_t size = n * b->in[i].size;
        if (b->in[i].dtype == PSG_I64)
            batch->in[i] = ids(size, b->in[i].below, &seed);
        else
            batch->in[i] = reals(size, b->in[i].positive ? 0.1 : -2, 2, &seed);
        ok = ok && batch->in[i];
    }
    for (int r = 0; r < b->n_param; r++)
        ok = (batch->param[r] = reals(b->param_size[r], -1, 1, &seed)) && ok;
    for (int j = 0; j < b->n_out; j++)
        ok = (batch->dout[j] = reals(n * b->out_size[j], -1, 1, &seed)) && ok;
    batch->random = reals(n * b->node->random, 0, 1, &seed);
    batch->weight = reals(n, 0.1, 2, &seed);
    ok = ok && batch->random && batch->weight;
    if (ok && n > 1)
        batch->weight[1] = 0;
    return ok ? 0 : PSG_E_NOMEM;
}

static void *slice(const void *from, int64_t sample, int64_t size, size_t each)
{
    void *to = calloc((size_t)size + 1, each);
    if (to)
        memcpy(to, (const char *)from + (size_t)(sample * size) * each,
               (size_t)size * each);
    return to;
}

int op_batch_single(struct op_batch *batch, const struct op_bench *b,
                    const struct op_batch *from, int64_t sample)
{
    *batch = (struct op_batch){ .n = 1 };
    bool ok = true;
    for (int i = 0; i < b->n_in; i++)
        ok = (batch->in[i] = slice(from->in[i], sample, b->in[i].size,
                                   psg_dtype_size(b->in[i].dtype))) &&
             ok;
    for (int r = 0; r < b->n_param; r++)
        ok = (batch->param[r] =
                  slice(from->param[r], 0, b->param_size[r], sizeof(psg_real))) &&
             ok;
    for (int j = 0; j < b->n_out; j++)
        ok = (batch->dout[j] =
                  slice(from->dout[j], sample, b->out_size[j], sizeof(psg_real))) &&
             ok;
    batch->random = slice(from->random, sample, b->node->random, sizeof(psg_real));
    batch->weight = slice(from->weight, sample, 1, sizeof(psg_real));
    return ok && batch->random && batch->weight ? 0 : PSG_E_NOMEM;
}

void op_batch_close(struct op_batch *batch)
{
    for (int i = 0; i < OP_IO_MAX; i++) {
        free(batch->in[i]);
        free(batch->dout[i]);
    }
    for (int r = 0; r < OP_PARAM_MAX; r++)
        free(batch->param[r]);
    free(batch->random);
    free(batch->weight);
    *batch = (struct op_batch){ 0 };
}

/* ---- guarded memory ---- */
enum { GUARD = 64, BLOCKS_MAX = 128 };

struct arena {
    struct {
        unsigned char *raw;
        size_t size;
        const char *what;
    } block[BLOCKS_MAX];
    int n;
};

static void arena_free(struct arena *a)
{
    for (int i = 0; i < a->n; i++)
        free(a->block[i].raw);
    a->n = 0;
}

/* n elements between canaries, every byte 0xff: NaN as a number, -1 as an id */
static void *guarded(struct arena *a, const char *what, int64_t n, size_t each)
{
    size_t size = (size_t)n * each;
    unsigned char *raw = a->n < BLOCKS_MAX ? malloc(size + 2 * GUARD) : NULL;
    if (!raw)
        abort();
    memset(raw, 0xa5, GUARD);
    memset(raw + GUARD, 0xff, size);
    memset(raw + GUARD + size, 0xa5, GUARD);
    a->block[a->n].raw = raw;
    a->block[a->n].size = size;
    a->block[a->n++].what = what;
    return raw + GUARD;
}

static const char *arena_overrun(const struct arena *a)
{
    for (int i = 0; i < a->n; i++)
        for (int k = 0; k < GUARD; k++)
            if (a->block[i].raw[k] != 0xa5 ||
                a->block[i].raw[GUARD + a->block[i].size + (size_t)k] != 0xa5)
                return a->block[i].what;
    return NULL;
}

/* ---- running ---- */
/* Inputs must come back unchanged: a sum over their bytes. */
static uint64_t fingerprint(const struct op_bench *b, const struct op_batch *batch)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (int i = 0; i < b->n_in + b->n_param + b->n_out; i++) {
        int r = i - b->n_in, j = r - b->n_param;
        const unsigned char *p = i < b->n_in      ? batch->in[i]
                                 : r < b->n_param ? (const void *)batch->param[r]
                                                  : (const void *)batch->dout[j];
        size_t size =
            i < b->n_in
                ? (size_t)(batch->n * b->in[i].size) * psg_dtype_size(b->in[i].dtype)
            : r < b->n_param ? (size_t)b->param_size[r] * sizeof(psg_real)
                             : (size_t)(batch->n * b->out_size[j]) * sizeof(psg_real);
        for (size_t k = 0; k < size; k++)
            h = (h ^ p[k]) * 1099511628211u;
    }
    return h;
}

struct buffers {
    psg_real *out[OP_IO_MAX], *din[OP_IO_MAX], *grad[OP_PARAM_MAX], *sum[OP_PARAM_MAX];
    psg_real *rows;
    double *sq;
    bool use[OP_PARAM_MAX];
};

static void call_init(const struct op_bench *b, const struct psg_backend *be,
                      const struct op_batch *batch, bool training, struct arena *a,
                      struct buffers *f, struct psg_call *c)
{
    const struct node *node = b->node;
    int64_t n = batch->n;
    for (int j = 0; j < b->n_out; j++)
        f->out[j] = guarded(a, "out", n * b->out_size[j], sizeof(psg_real));
    for (int i = 0; i < b->n_in; i++)
        if (b->in[i].dtype == PSG_REAL)
            f->din[i] = guarded(a, "din", n * b->in[i].size, sizeof(psg_real));
    int64_t stride = b->n_coord + 3;
    f->rows = guarded(a, "grad", n * stride, sizeof(psg_real));
    f->sq = guarded(a, "sq", n, sizeof(double));
    for (int r = 0; r < b->n_param; r++) {
        f->grad[r] = f->rows + b->param_at[r];
        f->sum[r] = guarded(a, "sum", b->param_size[r], sizeof(psg_real));
        for (int64_t k = 0; k < b->param_size[r]; k++)
            f->sum[r][k] = (psg_real)op_sum_start;
        f->use[r] = true;
    }
    memset(f->sq, 0, (size_t)n * sizeof(double));
    *c = (struct psg_call){
        .be = be,
        .geom = node->geom,
        .n = n,
        .training = training,
        .in = (const void *const *)batch->in,
        .out = f->out,
        .param = (const psg_real *const *)batch->param,
        .saved = guarded(a, "saved", n * node->save_real, sizeof(psg_real)),
        .saved_i64 = guarded(a, "saved_i64", n * node->save_i64, sizeof(int64_t)),
        .random = batch->random,
        .scratch = guarded(a, "scratch", node->scratch_fixed + n * node->scratch,
                           sizeof(psg_real)),
    };
}

/* What the op says that its rules do not read becomes NaN once forward has run. */
struct unread {
    const void *in[OP_IO_MAX];
    psg_real *out[OP_IO_MAX];
};

static psg_real *nans(struct arena *a, int64_t n)
{
    psg_real *x = guarded(a, "unread", n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (psg_real)NAN;
    return x;
}

static void hide_unread(const struct op_bench *b, const struct op_batch *batch, struct arena *a,
                        struct unread *u, struct psg_call *c)
{
    for (int i = 0; i < b->n_in; i++)
        u->in[i] = b->node->unread_in && b->in[i].dtype == PSG_REAL
                       ? nans(a, batch->n * b->in[i].size)
                       : c->in[i];
    for (int j = 0; j < b->n_out; j++)
        u->out[j] = b->node->unread_out ? nans(a, batch->n * b->out_size[j]) : c->out[j];
    c->in = u->in;
    c->out = u->out;
}

static void run_rules(const struct op_bench *b, const struct op_batch *batch,
                      struct buffers *f, struct psg_call c)
{
    const struct psg_op *op = b->op;
    const psg_real *dout[OP_IO_MAX];
    for (int j = 0; j < b->n_out; j++)
        dout[j] = j > 0 && batch->first_out ? NULL : batch->dout[j];
    for (int r = 1; r < b->n_param && batch->frozen; r += 2) {
        f->grad[r] = f->sum[r] = NULL;
        f->use[r] = false;
    }
    c.dout = dout;
    if (op->prepare)
        op->prepare(&c);
    if (op->backward && !batch->no_backward) {
        struct psg_call k = c;
        k.din = f->din;
        op->backward(&k);
    }
    if (op->grad_sample && b->n_param > 0) {
        struct psg_call k = c;
        k.grad = f->grad;
        k.grad_stride = b->n_coord + 3;
        op->grad_sample(&k);
    }
    if (op->norm_sample && b->n_param > 0) {
        struct psg_call k = c;
        k.sq = f->sq;
        k.use = f->use;
        op->norm_sample(&k);
    }
    if (op->clipped_sum && b->n_param > 0) {
        struct psg_call k = c;
        k.weight = batch->weight;
        k.sum = f->sum;
        op->clipped_sum(&k);
    }
}

static psg_real *copy_out(const psg_real *from, int64_t rows, int64_t length,
                          int64_t stride)
{
    psg_real *to = calloc((size_t)(rows * length) + 1, sizeof *to);
    for (int64_t n = 0; to && n < rows; n++)
        memcpy(to + n * length, from + n * stride, (size_t)length * sizeof *to);
    return to;
}

static void collect(const struct op_bench *b, const struct op_batch *batch, bool rules,
                    const struct buffers *f, struct op_result *r)
{
    int64_t n = batch->n, p = b->n_coord;
    for (int j = 0; j < b->n_out; j++)
        r->out[j] = copy_out(f->out[j], 1, n * b->out_size[j], 0);
    for (int i = 0; i < b->n_in && rules && b->op->backward && !batch->no_backward; i++)
        if (f->din[i])
            r->din[i] = copy_out(f->din[i], 1, n * b->in[i].size, 0);
    if (!rules || p == 0)
        return;
    if (b->op->grad_sample)
        r->rows = copy_out(f->rows, n, p, p + 3);
    if (b->op->norm_sample && (r->sq = calloc((size_t)n + 1, sizeof(double))))
        memcpy(r->sq, f->sq, (size_t)n * sizeof(double));
    if (b->op->clipped_sum && (r->sum = calloc((size_t)p + 1, sizeof(psg_real))))
        for (int k = 0; k < b->n_param; k++)
            if (f->sum[k])
                memcpy(r->sum + b->param_at[k], f->sum[k],
                       (size_t)b->param_size[k] * sizeof(psg_real));
}

/* The three columns between two rows belong to somebody else. */
static bool row_gaps_kept(const struct op_bench *b, const struct buffers *f, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++)
            if (!isnan(f->rows[i * (b->n_coord + 3) + b->n_coord + k]))
                return false;
    return true;
}

bool op_run(const struct op_bench *b, const struct psg_backend *be,
            const struct op_batch *batch, bool training, bool rules,
            struct op_result *result, char *why, size_t size)
{
    struct arena a = { .n = 0 };
    struct buffers f = { 0 };
    struct psg_call c;
    uint64_t before = fingerprint(b, batch);
    *result = (struct op_result){ 0 };
    call_init(b, be, batch, training, &a, &f, &c);
    b->op->forward(&c);
    struct unread unread;
    hide_unread(b, batch, &a, &unread, &c);
    if (rules)
        run_rules(b, batch, &f, c);
    collect(b, batch, rules, &f, result);
    const char *overrun = arena_overrun(&a);
    if (overrun)
        snprintf(why, size, "wrote outside of %s", overrun);
    else if (fingerprint(b, batch) != before)
        snprintf(why, size, "wrote to an input");
    else if (!row_gaps_kept(b, &f, batch->n))
        snprintf(why, size, "wrote between the rows of grad");
    else
        why[0] = '\0';
    arena_free(&a);
    return why[0] == '\0';
}

void op_result_close(struct op_result *r)
{
    for (int i = 0; i < OP_IO_MAX; i++) {
        free(r->out[i]);
        free(r->din[i]);
    }
    free(r->rows);
    free(r->sq);
    free(r->sum);
    *r = (struct op_result){ 0 };
}
