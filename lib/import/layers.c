/* Layers: convolutions, pooling, tables, normalisation. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "import/run.h"

/* A copy of `axes` with the numbers of made. */
static int result(struct im_run *r, const struct im_tensor *axes,
                  const struct im_tensor *made, struct im_value *out)
{
    struct im_tensor *y = im_tensor_copy(r, axes);
    if (!y)
        return im_no_memory(r);
    y->source = made->source;
    y->v = made->v;
    y->data = made->data;
    y->file = NULL;
    y->stored = made->stored;
    y->swapped = false;
    y->same = 0;
    y->changes = NULL;
    y->type = IM_FLOAT;
    return im_set(r, y, out);
}

/* [batch, channels, space...]; the result's space from the program. */
static int spatial(struct im_run *r, const struct im_tensor *x, int space)
{
    if (x->rank != space + 2 && !(x->rank == space + 1 && x->batch < 0))
        return im_fail(r, PSG_E_SHAPE, "needs %d axes, has %d", space + 2, x->rank);
    if (x->batch > 0 || (x->batch == 0 && x->rank == space + 1))
        return im_mixes(
            r, "the batch is not its first axis: samples would be channels or pixels");
    if (x->batch == 0 && !im_pure_batch(x))
        return im_fail(r, PSG_E_UNSUPPORTED, "several pictures in one sample's batch axis");
    return 0;
}

static int spatial_result(struct im_run *r, const struct im_tensor *x,
                          const struct im_tensor *made, struct im_value *out)
{
    struct im_tensor axes = *x;
    int from = x->batch == 0;
    for (int i = 0; i < made->rank; i++)
        axes.dim[from + i] = made->dim[i];
    return result(r, &axes, made, out);
}

/* ---- convolution ---- */
struct conv {
    struct im_tensor *x, *w, *b;
    int64_t stride[3], padding[3], dilation[3], output_padding[3], groups;
    const char *padding_text;
    bool transposed;
};

static int emit_conv(struct im_run *r, const struct conv *c, struct im_value *out)
{
    int space = c->w->rank - 2, status;
    static const char *const names[2][3] = {
        { "conv1d", "conv2d", "conv3d" },
        { "conv_transpose1d", "conv_transpose2d", "conv_transpose3d" },
    };
    if (space < 1 || space > 3)
        return im_fail(r, PSG_E_UNSUPPORTED, "a convolution over %d axes", space);
    struct im_tensor *x = c->x, made;
    if (c->w->source != IM_FILE)
        return im_fail(r, PSG_E_UNSUPPORTED,
                       "the weight of a convolution is computed, not a "
                       "parameter of the file");
    if ((status = spatial(r, x, space)) || (status = im_solid_tensor(r, x, &x)))
        return status;
    struct im_node *n = im_node_new(r, names[c->transposed][space - 1]);
    if (!n)
        return im_no_memory(r);
    im_attr_int(n, "out_channels", c->transposed ? c->w->dim[1] * c->groups : c->w->dim[0]);
    im_attr_ints(n, "kernel_size", c->w->dim + 2, space);
    im_attr_ints(n, "stride", c->stride, space);
    if (c->padding_text)
        im_attr_text(n, "padding", c->padding_text);
    else
        im_attr_ints(n, "padding", c->padding, space);
    im_attr_ints(n, "dilation", c->dilation, space);
    im_attr_int(n, "groups", c->groups);
    im_attr_bool(n, "bias", c->b != NULL);
    if (c->transposed)
        im_attr_ints(n, "output_padding", c->output_padding, space);
    if ((status = im_use(r, n, "weight", c->w)) ||
        (c->b && (status = im_use(r, n, "bias", c->b))) ||
        (status = im_layer(r, n, &x, 1, &made)))
        return status;
    return spatial_result(r, x, &made, out);
}

static int conv_tensors(struct im_run *r, const struct im_value *a, struct conv *c)
{
    int status = im_arg_tensor(r, &a[0], &c->x);
    if (!status)
        status = im_arg_tensor(r, &a[1], &c->w);
    if (!status && im_given(&a[2]))
        status = im_arg_tensor(r, &a[2], &c->b);
    if (!status && (c->w->rank < 3 || c->w->rank > 5))
        return im_fail(r, PSG_E_UNSUPPORTED, "a weight of %d axes", c->w->rank);
    return status;
}

/* A list for every axis in space, ones or zeros when it is not given. */
static int numbers(struct im_run *r, const struct im_value *v, int space, int64_t dflt,
                   int64_t *out)
{
    for (int i = 0; i < 3; i++)
        out[i] = dflt;
    return im_given(v) ? im_arg_ints(r, v, space, out, NULL) : 0;
}

/* conv1d/2d/3d(input, weight, bias, stride, padding, dilation, groups) */
static int op_conv(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct conv c = { 0 };
    int status = conv_tensors(r, a, &c);
    int space = status ? 1 : c.w->rank - 2;
    if (!status)
        status = numbers(r, &a[3], space, 1, c.stride);
    if (!status && a[4].kind == IM_TEXT)
        c.padding_text = a[4].text->s;
    else if (!status)
        status = numbers(r, &a[4], space, 0, c.padding);
    if (!status)
        status = numbers(r, &a[5], space, 1, c.dilation);
    if (!status)
        status = im_arg_int(r, &a[6], 1, &c.groups);
    return status ? status : emit_conv(r, &c, out);
}

/* conv_transpose(input, weight, bias, stride, padding, output_padding, groups, dilation) */
static int op_conv_transpose(struct im_run *r, const struct im_value *a,
                             struct im_value *out)
{
    struct conv c = { .transposed = true };
    int status = conv_tensors(r, a, &c);
    int space = status ? 1 : c.w->rank - 2;
    if (!status)
        status = numbers(r, &a[3], space, 1, c.stride);
    if (!status)
        status = numbers(r, &a[4], space, 0, c.padding);
    if (!status)
        status = numbers(r, &a[5], space, 0, c.output_padding);
    if (!status)
        status = im_arg_int(r, &a[6], 1, &c.groups);
    if (!status)
        status = numbers(r, &a[7], space, 1, c.dilation);
    return status ? status : emit_conv(r, &c, out);
}

/* _convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding,
 * groups, ...) and _convolution_mode, whose padding is a word */
static int op_convolution(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct conv c = { 0 };
    int status = conv_tensors(r, a, &c);
    int space = status ? 1 : c.w->rank - 2;
    if (!status)
        status = numbers(r, &a[3], space, 1, c.stride);
    if (!status)
        status = numbers(r, &a[4], space, 0, c.padding);
    if (!status)
        status = numbers(r, &a[5], space, 1, c.dilation);
    if (!status)
        status = im_arg_bool(r, &a[6], false, &c.transposed);
    if (!status)
        status = numbers(r, &a[7], space, 0, c.output_padding);
    if (!status)
        status = im_arg_int(r, &a[8], 1, &c.groups);
    return status ? status : emit_conv(r, &c, out);
}

/* ---- pooling ---- */
static int emit_pool(struct im_run *r, const char *kind, int space,
                     const struct im_value *x, struct im_node *n, struct im_value *out)
{
    struct im_tensor *t = NULL, made;
    int status = im_arg_tensor(r, x, &t);
    if (!n)
        return im_no_memory(r);
    char name[40];
    snprintf(name, sizeof name, "%s%dd", kind, space);
    if (!(n->op = im_pool_text(r->pool, name, strlen(name))))
        return im_no_memory(r);
    if (status || (status = spatial(r, t, space)) || (status = im_solid_tensor(r, t, &t)) ||
        (status = im_layer(r, n, &t, 1, &made)))
        return status;
    return spatial_result(r, t, &made, out);
}

static int pool_attrs(struct im_run *r, const struct im_value *a, int space,
                      struct im_node *n)
{
    int64_t kernel[3], stride[3], padding[3];
    if (!n)
        return im_no_memory(r);
    int status = numbers(r, &a[1], space, 1, kernel);
    bool own = a[2].kind == IM_LIST && a[2].list->n > 0;
    own |= a[2].kind == IM_INT;
    if (!status && own)
        status = numbers(r, &a[2], space, 1, stride);
    if (!status)
        status = numbers(r, &a[3], space, 0, padding);
    if (status)
        return status;
    im_attr_ints(n, "kernel_size", kernel, space);
    im_attr_ints(n, "stride", own ? stride : kernel, space);
    im_attr_ints(n, "padding", padding, space);
    return 0;
}

/* max_pool(self, kernel_size, stride, padding, dilation, ceil_mode) */
static int max_pool(struct im_run *r, const struct im_value *a, int space,
                    struct im_value *out)
{
    struct im_node *n = im_node_new(r, NULL);
    int64_t dilation[3];
    bool ceil_mode;
    int status = pool_attrs(r, a, space, n);
    if (!status)
        status = numbers(r, &a[4], space, 1, dilation);
    if (!status)
        status = im_arg_bool(r, &a[5], false, &ceil_mode);
    if (status)
        return status;
    im_attr_ints(n, "dilation", dilation, space);
    im_attr_bool(n, "ceil_mode", ceil_mode);
    return emit_pool(r, "max_pool", space, &a[0], n, out);
}

/* avg_pool(self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override) */
static int avg_pool(struct im_run *r, const struct im_value *a, int space,
                    struct im_value *out)
{
    struct im_node *n = im_node_new(r, NULL);
    bool ceil_mode, include;
    int64_t divisor;
    int status = pool_attrs(r, a, space, n);
    if (!status)
        status = im_arg_bool(r, &a[4], false, &ceil_mode);
    if (!status)
        status = im_arg_bool(r, &a[5], true, &include);
    if (!status)
        status = im_arg_int(r, &a[6], 0, &divisor);
    if (status)
        return status;
    im_attr_bool(n, "ceil_mode", ceil_mode);
    im_attr_bool(n, "count_include_pad", include);
    if (divisor != 0)
        im_attr_int(n, "divisor_override", divisor);
    return emit_pool(r, "avg_pool", space, &a[0], n, out);
}

/* adaptive pooling(self, output_size): None keeps an axis as it is */
static int adaptive(struct im_run *r, const struct im_value *a, const char *kind, int space,
                    struct im_value *out)
{
    struct im_node *n = im_node_new(r, NULL);
    struct im_tensor *x = NULL;
    int64_t size[3];
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = spatial(r, x, space);
    for (int i = 0; i < space && !status; i++) {
        const struct im_value *v = &a[1];
        if ((v->kind == IM_LIST || v->kind == IM_TUPLE) && v->list->n == (size_t)space)
            v = &v->list->item[i];
        else if (v->kind == IM_LIST && v->list->n == 1)
            v = &v->list->item[0];
        status = im_arg_int(r, v, x->dim[x->rank - space + i], &size[i]);
    }
    if (status || !n)
        return status ? status : im_no_memory(r);
    im_attr_ints(n, "output_size", size, space);
    return emit_pool(r, kind, space, &a[0], n, out);
}

/* (values, positions of the maxima); the positions have no meaning here. */
static int with_positions(struct im_run *r, struct im_value *out)
{
    struct im_value values = *out;
    *out = im_list_new(r->pool, IM_TUPLE);
    if (out->kind == IM_NONE || im_list_push(r->pool, out->list, values) ||
        im_list_push(r->pool, out->list, (struct im_value){ .kind = IM_UNKNOWN }))
        return im_no_memory(r);
    return 0;
}

#define POOLS(D)                                                                           \
    static int op_max_pool##D(struct im_run *r, const struct im_value *a,                  \
                              struct im_value *out)                                        \
    {                                                                                      \
        return max_pool(r, a, D, out);                                                     \
    }                                                                                      \
    static int op_avg_pool##D(struct im_run *r, const struct im_value *a,                  \
                              struct im_value *out)                                        \
    {                                                                                      \
        return avg_pool(r, a, D, out);                                                     \
    }                                                                                      \
    static int op_adaptive_avg##D(struct im_run *r, const struct im_value *a,              \
                                  struct im_value *out)                                    \
    {                                                                                      \
        return adaptive(r, a, "adaptive_avg_pool", D, out);                                \
    }                                                                                      \
    static int op_adaptive_max##D(struct im_run *r, const struct im_value *a,              \
                                  struct im_value *out)                                    \
    {                                                                                      \
        int status = adaptive(r, a, "adaptive_max_pool", D, out);                          \
        return status ? status : with_positions(r, out);                                   \
    }                                                                                      \
    static int op_max_positions##D(struct im_run *r, const struct im_value *a,             \
                                   struct im_value *out)                                   \
    {                                                                                      \
        int status = max_pool(r, a, D, out);                                               \
        return status ? status : with_positions(r, out);                                   \
    }
POOLS(1)
POOLS(2)
POOLS(3)

/* ---- nearest neighbours: every pixel repeated ---- */
static int op_upsample_nearest(struct im_run *r, const struct im_value *a,
                               struct im_value *out)
{
    struct im_tensor *x = NULL, *y = NULL;
    int status = im_arg_tensor(r, &a[0], &x);
    if (!status)
        status = spatial(r, x, x->rank - 2);
    if (status)
        return status;
    for (int k = 2; k < x->rank; k++) {
        int64_t size = 0;
        double scale = 0;
        const struct im_value *s = &a[1], *f = &a[2];
        if (im_given(s) && s->kind == IM_LIST && s->list->n == (size_t)x->rank - 2)
            status = im_arg_int(r, &s->list->item[k - 2], 0, &size);
        else if (f->kind == IM_LIST && f->list->n == (size_t)x->rank - 2)
            status = im_arg_real(r, &f->list->item[k - 2], 0, &scale);
        if (status)
            return status;
        size = size ? size : (int64_t)floor((double)x->dim[k] * scale);
        if (size < x->dim[k] || size % x->dim[k])
            return im_fail(r, PSG_E_UNSUPPORTED,
                           "a size that is no multiple of the picture's");
        struct im_tensor *wide = im_tensor_copy(r, x);
        if (!wide)
            return im_no_memory(r);
        int64_t times = size / x->dim[k];
        im_add_axis(wide, k + 1);
        wide->dim[k + 1] = times;
        wide->same |= times > 1 ? 1u << (k + 1) : 0;
        if ((status = im_solid_tensor(r, wide, &y)))
            return status;
        struct im_tensor *flat = im_tensor_copy(r, y);
        if (!flat)
            return im_no_memory(r);
        im_drop_axis(flat, k + 1);
        flat->dim[k] = size;
        x = flat;
    }
    return im_set(r, x, out);
}

/* ---- tables ---- */
/* Rows of a table at known places: a slice when they are neighbours. */
static int known_rows(struct im_run *r, struct im_tensor *w, struct im_tensor *ids,
                      struct im_tensor **out)
{
    struct im_value args[] = { im_tensor_value(w), im_int(0), im_none() }, v;
    struct im_tensor *flat = im_tensor_copy(r, ids);
    if (!flat)
        return im_no_memory(r);
    flat->rank = 1;
    flat->dim[0] = psg_shape_size(&ids->stored);
    flat->batch = -1;
    flat->same = 0;
    args[2] = im_tensor_value(flat);
    int status = im_find_op("torch.index_select")->fn(r, args, &v);
    if (status)
        return status;
    /* the ids' axes, then the row's */
    struct im_tensor *y = im_tensor_copy(r, ids);
    if (!y)
        return im_no_memory(r);
    const struct im_tensor *rows = v.tensor;
    y->source = rows->source;
    y->v = rows->v;
    y->data = rows->data;
    y->file = rows->file;
    y->swapped = rows->swapped;
    y->stored = rows->stored;
    y->type = IM_FLOAT;
    y->changes = NULL;
    im_add_axis(y, y->rank);
    y->dim[y->rank - 1] = w->dim[1];
    *out = y;
    return 0;
}

int im_embedding(struct im_run *r, struct im_tensor *w, struct im_tensor *ids,
                 int64_t padding, struct im_tensor **out)
{
    struct im_tensor made, *in;
    if (w->rank != 2)
        return im_fail(r, PSG_E_SHAPE, "a table has two axes");
    if (ids->source == IM_DATA)
        return known_rows(r, w, ids, out);
    if (ids->source != IM_VALUE || psg_program_type(r->program, ids->v)->dtype != PSG_I64)
        return im_fail(r, PSG_E_UNSUPPORTED,
                       "ids that are computed: only an input of ids can be looked up");
    struct im_node *n = im_node_new(r, "embedding");
    in = im_tensor_copy(r, ids);
    if (!n || !in)
        return im_no_memory(r);
    im_attr_int(n, "num_embeddings", w->dim[0]);
    im_attr_int(n, "embedding_dim", w->dim[1]);
    if (padding >= 0)
        im_attr_int(n, "padding_idx", padding);
    int status = im_use(r, n, "weight", w);
    if (!status)
        status = im_layer_ids(r, n, &in, 1, &made);
    if (status)
        return status;
    struct im_tensor *y = im_tensor_copy(r, ids);
    if (!y)
        return im_no_memory(r);
    if (y->rank + 1 >= PSG_MAX_RANK)
        return im_fail(r, PSG_E_UNSUPPORTED, "too many axes");
    y->v = made.v;
    y->stored = made.stored;
    y->type = IM_FLOAT;
    y->changes = NULL;
    im_add_axis(y, y->rank);
    y->dim[y->rank - 1] = w->dim[1];
    *out = y;
    return 0;
}

/* embedding(weight, indices, padding_idx, scale_grad_by_freq, sparse) */
static int op_embedding(struct im_run *r, const struct im_value *a, struct im_value *out)
{
    struct im_tensor *w = NULL, *ids = NULL, *y = NULL;
    int64_t padding;
    bool by_freq;
    int status = im_arg_tensor(r, &a[0], &w);
    if (!status)
        status = im_arg_tensor(r, &a[1], &ids);
    if (!status)
        status = im_arg_int(r, &a[2], -1, &padding);
    if (!status)
        status = im_arg_bool(r, &a[3], false, &by_freq);
    if (!status && by_freq)
        return im_mixes(r, "scale_grad_by_freq counts ids over the batch");
    if (!status)
        status = im_embedding(r, w, ids, padding, &y);
    return status ? status : im_set(r, y, out);
}

/* Offsets that cut ids [B * L] into bags of L each: known numbers 0, L, 2 L ... of the example,
 * or not given for ids [B, L]. */
static bool even_offsets(const struct im_tensor *offsets, int64_t *length)
{
    int64_t n = psg_shape_size(&offsets->stored);
    if (offsets->source != IM_DATA || offsets->rank != 1 || n < 2 || offsets->same)
        return false;
    *length = (int64_t)offsets->data[1];
    for (int64_t i = 0; i < n; i++)
        if (offsets->data[i] != (double)(i * *length))
            return false;
    return *length > 0;
}

/* embedding_bag(weight, indices, offsets, scale_grad_by_freq, mode, sparse, per_sample_weights,
 * include_last_offset, padding_idx): indices [B * L] with offsets that the code makes itself for
 * indices [B, L] */
static int op_embedding_bag(struct im_run *r, const struct im_value *a,
                            struct im_value *out)
{
    static const char *const modes[] = { "sum", "mean", "max" };
    struct im_tensor *w = NULL, *ids = NULL, *weights = NULL, made;
    int64_t mode, padding, length = 0;
    bool by_freq;
    int status = im_arg_tensor(r, &a[0], &w);
    if (!status)
        status = im_arg_tensor(r, &a[1], &ids);
    if (!status)
        status = im_arg_bool(r, &a[3], false, &by_freq);
    if (!status)
        status = im_arg_int(r, &a[4], 0, &mode);
    if (!status)
        status = im_arg_int(r, &a[8], -1, &padding);
    if (!status && im_given(&a[6]))
        status = im_arg_tensor(r, &a[6], &weights);
    if (status)
        return status;
    if (by_freq)
        return im_mixes(r, "scale_grad_by_freq counts ids over the batch");
    if (ids->source != IM_VALUE || psg_program_type(r->program, ids->v)->dtype != PSG_I64 ||
        ids->batch != 0 || mode < 0 || mode > 2)
        return im_fail(r, PSG_E_UNSUPPORTED, "needs ids of the batch, and a known mode");
    if (im_given(&a[2]) && a[2].kind != IM_UNSET) {
        struct im_tensor *offsets = NULL;
        if ((status = im_arg_tensor(r, &a[2], &offsets)))
            return status;
        bool strided = offsets->source == IM_OFFSETS;
        if (strided)
            length = (int64_t)offsets->data[0];
        else if (!even_offsets(offsets, &length))
            return im_fail(
                r, PSG_E_UNSUPPORTED,
                "bags whose offsets depend on the data; give ids as [batch, length]");
        if (ids->rank != 1 || length != ids->dim[0] || ids->inner != ids->dim[0])
            return im_mixes(r, "a bag that does not hold the ids of one sample");
    } else if (ids->rank != 2) {
        return im_fail(r, PSG_E_SHAPE, "needs ids [batch, length]");
    }
    struct im_node *n = im_node_new(r, "embedding_bag");
    struct im_tensor *in[2] = { im_tensor_copy(r, ids), weights };
    if (!n || !in[0])
        return im_no_memory(r);
    im_attr_int(n, "num_embeddings", w->dim[0]);
    im_attr_int(n, "embedding_dim", w->dim[1]);
    im_attr_text(n, "mode", modes[mode]);
    if (padding >= 0)
        im_attr_int(n, "padding_idx", padding);
    status = im_use(r, n, "weight", w);
    if (!status)
        status = im_layer_ids(r, n, in, weights ? 2 : 1, &made);
    if (status)
        return status;
    struct im_tensor axes = { .type = IM_FLOAT,
                              .source = IM_VALUE,
                              .rank = 2,
                              .batch = 0,
                              .inner = 1,
                              .dim = { 1, w->dim[1] } };
    struct im_value bags;
    if ((status = result(r, &axes, &made, &bags)))
        return status;
    *out = im_list_new(r->pool, IM_TUPLE);
    if (out->kind == IM_NONE || im_list_push(r->pool, out->list, bags))
        return im_no_memory(r);
    for (int i = 0; i < 3; i++)
        if (im_list_push(r->pool, out->list, (struct im_value){ .kind = IM_UNKNOWN }))
            return im_no_memory(r);
    return 0;
}

const struct im_op im_ops_layer[] = {
    { "conv1d", "input weight bias stride padding dilation groups", op_conv },
    { "conv2d", "input weight bias stride padding dilation groups", op_conv },
    { "conv3d", "input weight bias stride padding dilation groups", op_conv },
    { "_convolution_mode", "input weight bias stride padding dilation groups", op_conv },
    { "conv_transpose1d", "input weight bias stride padding output_padding groups dilation",
      op_conv_transpose },
    { "conv_transpose2d", "input weight bias stride padding output_padding groups dilation",
      op_conv_transpose },
    { "conv_transpose3d", "input weight bias stride padding output_padding groups dilation",
      op_conv_transpose },
    { "_convolution",
      "input weight bias stride padding dilation transposed output_padding groups "
      "benchmark "
      "deterministic cudnn_enabled allow_tf32",
      op_convolution },
    { "convolution",
      "input weight bias stride padding dilation transposed output_padding groups",
      op_convolution },
    { "max_pool1d", "self kernel_size stride padding dilation ceil_mode", op_max_pool1 },
    { "max_pool1d_with_indices", "self kernel_size stride padding dilation ceil_mode",
      op_max_positions1 },
    { "max_pool2d", "self kernel_size stride padding dilation ceil_mode", op_max_pool2 },
    { "max_pool2d_with_indices", "self kernel_size stride padding dilation ceil_mode",
      op_max_positions2 },
    { "max_pool3d", "self kernel_size stride padding dilation ceil_mode", op_max_pool3 },
    { "max_pool3d_with_indices", "self kernel_size stride padding dilation ceil_mode",
      op_max_positions3 },
    { "avg_pool1d", "self kernel_size stride padding ceil_mode count_include_pad",
      op_avg_pool1 },
    { "avg_pool2d",
      "self kernel_size stride padding ceil_mode count_include_pad divisor_override",
      op_avg_pool2 },
    { "avg_pool3d",
      "self kernel_size stride padding ceil_mode count_include_pad divisor_override",
      op_avg_pool3 },
    { "adaptive_avg_pool1d", "self output_size", op_adaptive_avg1 },
    { "adaptive_avg_pool2d", "self output_size", op_adaptive_avg2 },
    { "adaptive_avg_pool3d", "self output_size", op_adaptive_avg3 },
    { "adaptive_max_pool1d", "self output_size", op_adaptive_max1 },
    { "adaptive_max_pool2d", "self output_size", op_adaptive_max2 },
    { "adaptive_max_pool3d", "self output_size", op_adaptive_max3 },
    { "upsample_nearest1d", "input output_size scale_factors", op_upsample_nearest },
    { "upsample_nearest2d", "input output_size scale_factors", op_upsample_nearest },
    { "upsample_nearest3d", "input output_size scale_factors", op_upsample_nearest },
    { "embedding", "weight indices padding_idx scale_grad_by_freq sparse", op_embedding },
    { "embedding_bag",
      "weight indices offsets scale_grad_by_freq mode sparse per_sample_weights "
      "include_last_offset padding_idx",
      op_embedding_bag },
    { NULL, NULL, NULL },
};
