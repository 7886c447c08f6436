/* Columns of a batch become the inputs of a tile. */
#include <stdio.h>

#include "backend/memory.h"
#include "mode/mode.h"

static int64_t record_number(const struct psg_records *batch, int64_t i)
{
    return batch->record ? batch->record[i] : i;
}

static const char *column_at(const struct psg_column *c, int64_t record)
{
    return (const char *)c->data + (size_t)record * c->stride;
}

static size_t column_size(enum psg_column_type type)
{
    switch (type) {
    case PSG_COL_U8: return 1;
    case PSG_COL_F32:
    case PSG_COL_I32: return 4;
    case PSG_COL_F64:
    case PSG_COL_I64: break;
    }
    return 8;
}

/* One run of `n` neighbouring elements. The switch stands outside of the loops. */
static void load_reals(const struct psg_column *c, const void *from, int64_t n, psg_real *to)
{
    const psg_real scale = (psg_real)(c->scale == 0 ? 1 : c->scale);
    const psg_real shift = (psg_real)c->shift;
    const bool plain = scale == 1 && shift == 0;
#define LOAD_LOOP(type)                                                                        \
    do {                                                                                       \
        const type *x = from;                                                                  \
        if (plain)                                                                             \
            for (int64_t i = 0; i < n; i++)                                                    \
                to[i] = (psg_real)x[i];                                                        \
        else                                                                                   \
            for (int64_t i = 0; i < n; i++)                                                    \
                to[i] = (psg_real)x[i] * scale + shift;                                        \
    } while (0)
    switch (c->type) {
    case PSG_COL_F32: LOAD_LOOP(float); break;
    case PSG_COL_F64: LOAD_LOOP(double); break;
    case PSG_COL_U8: LOAD_LOOP(uint8_t); break;
    case PSG_COL_I32: LOAD_LOOP(int32_t); break;
    case PSG_COL_I64: LOAD_LOOP(int64_t); break;
    }
#undef LOAD_LOOP
}

/* Returns false at the first id outside of [lo, hi). */
static bool load_ids(const struct psg_column *c, const void *from, int64_t n, int64_t lo,
                     int64_t hi, int64_t *to)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t v = c->type == PSG_COL_U8    ? ((const uint8_t *)from)[i]
                    : c->type == PSG_COL_I32 ? ((const int32_t *)from)[i]
                                             : ((const int64_t *)from)[i];
        if (v < lo || v >= hi)
            return false;
        to[i] = v;
    }
    return true;
}

static bool load_sample(const struct psg_input_info *info, const struct psg_column *c,
                        const char *from, int64_t size, void *to)
{
    int64_t inner = c->inner > 0 ? c->inner : size;
    size_t element = column_size(c->type);
    for (int64_t at = 0, run = 0; at < size; at += inner, run++) {
        const char *x = from + (size_t)(run * c->outer_stride) * element;
        if (info->type.dtype == PSG_REAL)
            load_reals(c, x, inner, (psg_real *)to + at);
        else if (!load_ids(c, x, inner, info->lo, info->hi, (int64_t *)to + at))
            return false;
    }
    return true;
}

int load_tile(struct worker *w, const struct psg_records *batch, int64_t first, int64_t n,
              struct psg_error *err)
{
    const struct psg_program *p = w->plan->program;
    for (int i = 0; i < p->n_inputs; i++) {
        const struct psg_input_info *info = &p->inputs[i].info;
        const struct psg_column *c = &batch->column[i];
        int64_t size = psg_shape_size(&info->type.shape);
        size_t bytes = (size_t)size * psg_dtype_size(info->type.dtype);
        char *there = w->value[p->inputs[i].value], *to = w->stage ? w->stage : there;
        for (int64_t s = 0; s < n; s++) {
            int64_t record = record_number(batch, first + s);
            if (load_sample(info, c, column_at(c, record), size, to + (size_t)s * bytes))
                continue;
            return psg_fail(err, PSG_E_RANGE, info->name,
                            "record %lld holds an id that is not from %lld to %lld",
                            (long long)record, (long long)info->lo, (long long)info->hi - 1);
        }
        memory_upload(w->plan->be, (size_t)n * bytes, to, there);
    }
    return 0;
}

void load_random(struct worker *w, const struct psg_records *batch, int64_t first, int64_t n)
{
    const struct psg_program *p = w->plan->program;
    enum { CHUNK = 512 };
    double u[CHUNK];
    for (int i = 0; i < p->n_nodes; i++) {
        int64_t k = p->nodes[i].random;
        psg_real *to = w->stage ? w->stage : w->random[i];
        for (int64_t at = 0; at < n * k; at += CHUNK) {
            int64_t m = n * k - at < CHUNK ? n * k - at : CHUNK;
            psg_rng_fill_uniform(batch->key, PSG_RNG_DROPOUT, batch->step, (uint32_t)i,
                                 first * k + at, m, u, NULL);
            for (int64_t j = 0; j < m; j++)
                to[at + j] = (psg_real)u[j];
        }
        if (k > 0)
            memory_upload(w->plan->be, (size_t)(n * k) * sizeof *to, to, w->random[i]);
    }
}

bool program_draws(const struct psg_program *p)
{
    for (int i = 0; i < p->n_nodes; i++)
        if (p->nodes[i].random > 0)
            return true;
    return false;
}

int load_check(const struct psg_plan *plan, const struct psg_records *batch,
               struct psg_error *err)
{
    const struct psg_program *p = plan->program;
    if (batch->n < 0)
        return psg_fail(err, PSG_E_INVALID, NULL, "a batch of %lld samples",
                        (long long)batch->n);
    for (int i = 0; batch->n > 0 && i < p->n_inputs; i++) {
        const struct psg_input_info *info = &p->inputs[i].info;
        const struct psg_column *c = &batch->column[i];
        bool real = c->type == PSG_COL_F32 || c->type == PSG_COL_F64;
        int64_t size = psg_shape_size(&info->type.shape);
        if (!c->data && size > 0)
            return psg_fail(err, PSG_E_INVALID, info->name, "the batch has no data for this");
        if (real && info->type.dtype == PSG_I64)
            return psg_fail(err, PSG_E_INVALID, info->name, "needs an integer column");
        if (c->inner > 0 && size % c->inner != 0)
            return psg_fail(err, PSG_E_SHAPE, info->name,
                            "runs of %lld elements do not make up a sample of %lld",
                            (long long)c->inner, (long long)size);
    }
    return 0;
}
