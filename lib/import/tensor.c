/* Tensors of the interpreter: where their numbers are, and which of their axes is the batch. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "import/archive.h"

int im_no_memory(struct im_run *r)
{
    return im_pool_fail(r->err, im_place(r));
}

int im_mixes(struct im_run *r, const char *why)
{
    return im_fail(r, PSG_E_UNSUPPORTED, "mixes samples of the batch: %s", why);
}

int im_replaces(struct im_run *r, const char *why, const char *remedy)
{
    char text[200];
    snprintf(text, sizeof text, r->findings ? "%s" : "%s; %s", why, remedy);
    int status = im_mixes(r, text);
    if (!r->findings)
        return status;
    psg_findings_add(r->findings, r->err, true, remedy);
    return 0;
}

struct im_value im_tensor_value(struct im_tensor *t)
{
    return (struct im_value){ .kind = IM_TENSOR, .tensor = t };
}

int im_set(struct im_run *r, struct im_tensor *t, struct im_value *out)
{
    if (!t)
        return im_no_memory(r);
    *out = im_tensor_value(t);
    return 0;
}

struct im_tensor *im_tensor_copy(struct im_run *r, const struct im_tensor *t)
{
    struct im_tensor *copy = im_pool_take(r->pool, sizeof *copy);
    if (copy)
        *copy = *t;
    return copy;
}

struct im_tensor *im_tensor_data(struct im_run *r, enum im_type type,
                                 const struct psg_shape *shape, const double *data)
{
    struct im_tensor *t = im_pool_take(r->pool, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct im_tensor){ .type = type,
                             .source = IM_DATA,
                             .rank = shape->rank,
                             .batch = -1,
                             .inner = 1,
                             .stored = *shape,
                             .v = PSG_NONE,
                             .data = data };
    memcpy(t->dim, shape->dim, sizeof t->dim);
    return t;
}

struct im_tensor *im_tensor_number(struct im_run *r, enum im_type type, double d)
{
    double *data = im_pool_take(r->pool, sizeof *data);
    struct psg_shape scalar = { 0 };
    if (!data)
        return NULL;
    *data = d;
    return im_tensor_data(r, type, &scalar, data);
}

/* ---- tensors of the file ---- */
static double half(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 0    ? ldexp(m, -24)
               : e == 31 ? (m ? NAN : INFINITY)
                         : ldexp(m + 1024, e - 25);
    return h >> 15 ? -v : v;
}

static double brain(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return (double)f;
}

static double element(enum im_element e, const uint8_t *p)
{
    union {
        float f;
        double d;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        uint16_t u16;
    } u;
    memcpy(&u, p, (size_t)im_element_size(e));
    switch (e) {
    case IM_F16: return half(u.u16);
    case IM_BF16: return brain(u.u16);
    case IM_F32: return (double)u.f;
    case IM_F64: return u.d;
    case IM_I8: return (double)(int8_t)*p;
    case IM_U8: return (double)*p;
    case IM_I16: return (double)u.i16;
    case IM_I32: return (double)u.i32;
    case IM_I64: return (double)u.i64;
    case IM_BOOLS: return (double)(*p != 0);
    }
    return 0;
}

double im_stored_at(const struct im_stored *s, int64_t i)
{
    int64_t at = s->offset;
    for (int k = s->shape.rank - 1; k >= 0; k--) {
        at += i % s->shape.dim[k] * s->stride[k];
        i /= s->shape.dim[k];
    }
    enum im_element e = s->storage->element;
    return element(e, s->data + at * im_element_size(e));
}

static bool floating(enum im_element e)
{
    return e == IM_F16 || e == IM_BF16 || e == IM_F32 || e == IM_F64;
}

static struct im_tensor *file_numbers(struct im_run *r, struct im_stored *file)
{
    enum im_element e = file->storage->element;
    int64_t n = psg_shape_size(&file->shape);
    double *data = im_pool_array(r->pool, (size_t)n + 1, sizeof *data);
    if (!data)
        return NULL;
    for (int64_t i = 0; i < n; i++)
        data[i] = im_stored_at(file, i);
    return im_tensor_data(r,
                          e == IM_BOOLS ? IM_BOOLEAN
                          : floating(e) ? IM_FLOAT
                                        : IM_LONG,
                          &file->shape, data);
}

int im_tensor_file_numbers(struct im_run *r, struct im_stored *file, struct im_tensor **out)
{
    *out = file_numbers(r, file);
    return *out ? 0 : im_no_memory(r);
}

int im_tensor_file(struct im_run *r, struct im_stored *file, struct im_tensor **out)
{
    if (file->tensor) {
        *out = file->tensor;
        return 0;
    }
    int status = im_stored_open(r, file);
    if (status)
        return status;
    struct im_tensor *t = NULL;
    if (floating(file->storage->element) && (!file->buffer || file->shape.rank > 0)) {
        t = im_tensor_data(r, IM_FLOAT, &file->shape, NULL);
        if (t) {
            t->source = IM_FILE;
            t->file = file;
        }
    } else {
        t = file_numbers(r, file);
    }
    if (!t)
        return im_no_memory(r);
    *out = file->tensor = t;
    return 0;
}

/* ---- axes ---- */
bool im_pure_batch(const struct im_tensor *t)
{
    return t->batch >= 0 && t->dim[t->batch] == 1;
}

int im_axis(const struct im_tensor *t, int k)
{
    if (!im_pure_batch(t) || k < t->batch)
        return k;
    return k == t->batch ? -1 : k - 1;
}

static struct psg_shape shape_of(const struct im_tensor *t, bool thin)
{
    struct psg_shape s = { 0 };
    bool pure = im_pure_batch(t);
    for (int k = 0; k < t->rank; k++)
        if (!(pure && k == t->batch))
            s.dim[s.rank++] = thin && t->same >> k & 1 ? 1 : t->dim[k];
    return s;
}

struct psg_shape im_sample_shape(const struct im_tensor *t)
{
    return shape_of(t, false);
}

struct psg_shape im_thin_shape(const struct im_tensor *t)
{
    return shape_of(t, true);
}

int64_t im_size_of(const struct im_tensor *t)
{
    struct psg_shape s = im_sample_shape(t);
    return psg_shape_size(&s);
}

bool im_all_equal(const struct im_tensor *t, double d)
{
    if (t->source != IM_DATA)
        return false;
    int64_t n = psg_shape_size(&t->stored);
    for (int64_t i = 0; i < n; i++)
        if (t->data[i] != d)
            return false;
    return true;
}

void im_drop_axis(struct im_tensor *t, int k)
{
    unsigned low = t->same & ((1u << k) - 1);
    t->same = low | (t->same >> (k + 1) << k);
    for (int i = k; i + 1 < t->rank; i++)
        t->dim[i] = t->dim[i + 1];
    t->dim[--t->rank] = 0;
    if (t->batch > k)
        t->batch--;
    else if (t->batch == k)
        t->batch = -1;
}

void im_add_axis(struct im_tensor *t, int k)
{
    unsigned low = t->same & ((1u << k) - 1);
    t->same = low | (t->same >> k << (k + 1));
    for (int i = t->rank; i > k; i--)
        t->dim[i] = t->dim[i - 1];
    t->dim[k] = 1;
    t->rank++;
    if (t->batch >= k)
        t->batch++;
}

/* ---- values ---- */
int im_solid(struct im_run *r, const struct im_tensor *t, psg_value *v)
{
    struct psg_shape want = im_sample_shape(t);
    bool ids =
        t->source == IM_VALUE && psg_program_type(r->program, t->v)->dtype == PSG_I64;
    if (t->source == IM_VALUE && !ids && !t->same && psg_shape_equal(&t->stored, &want)) {
        *v = t->v;
        return 0;
    }
    if (psg_shape_size(&want) < 0 || psg_shape_size(&want) > 1 << 26)
        return im_fail(r, PSG_E_RANGE, "a tensor of more than 2^26 numbers for one sample");
    struct im_tensor *copy = im_tensor_copy(r, t), out = { 0 };
    if (!copy)
        return im_no_memory(r);
    struct psg_shape thin = im_thin_shape(t);
    const char *text = im_operand(r, copy, 'a', &thin);
    if (!text)
        return im_no_memory(r);
    bool keep = r->keep;
    r->keep = true;
    int status = t->same ? im_formula(r, &copy, 1, &out, "expand(%s, %s)", text,
                                      im_shape_list(r, &want))
                         : im_formula(r, &copy, 1, &out, ids ? "float(%s)" : "%s", text);
    r->keep = keep;
    *v = out.v;
    return status;
}

int im_solid_tensor(struct im_run *r, const struct im_tensor *t, struct im_tensor **out)
{
    struct im_tensor *copy = im_tensor_copy(r, t);
    if (!copy)
        return im_no_memory(r);
    int status = im_solid(r, t, &copy->v);
    copy->source = IM_VALUE;
    copy->same = 0;
    copy->swapped = false;
    copy->stored = im_sample_shape(t);
    *out = copy;
    return status;
}
