/* scale_shift: y = x * scale + shift; add_param: y = x + value. The parameters have the
 * shape `shape`, which broadcasts to a sample's as NumPy's do.
 *
 *   dscale[n] = dy x, dshift[n] = dvalue[n] = dy, each summed over the axes along which the
 *   parameter is repeated; dx = dy scale or dy. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    struct psg_shape x;
    int64_t size, n_param;        /* of a sample, of the parameter */
    int64_t stride[PSG_MAX_RANK]; /* of the parameter through x; 0: repeats */
    unsigned repeated;            /* axes of [N, x] */
    bool scale;
};

static const struct psg_attr_spec attrs[] = {
    { "shape", PSG_ATTR_INT | PSG_ATTR_INTS, "required; broadcasts to a sample's shape" },
    { NULL, 0, NULL },
};

static int affine_infer(struct psg_infer *c, bool scale)
{
    struct geom *g = c->geom;
    struct psg_shape shape = { 0 };
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    g->x = c->in[0].shape;
    g->size = psg_shape_size(&g->x);
    g->scale = scale;
    shape.rank = psg_infer_int_list(c, "shape", PSG_MAX_RANK, shape.dim);
    if (shape.rank < 0)
        return psg_infer_status(c);
    int skip = g->x.rank - shape.rank;
    bool fits = skip >= 0 && psg_infer_has(c, "shape") && g->x.rank < PSG_MAX_RANK;
    int64_t step = 1;
    for (int i = g->x.rank - 1; i >= 0 && fits; i--) {
        int64_t d = i < skip ? 1 : shape.dim[i - skip];
        bool repeats = d == 1 && g->x.dim[i] != 1;
        fits = d == g->x.dim[i] || repeats;
        g->stride[i] = repeats ? 0 : step;
        g->repeated |= repeats ? 1u << (i + 1) : 0;
        step *= d;
    }
    char text[120];
    if (!fits)
        return psg_infer_fail(c, PSG_E_SHAPE, "shape", "shape does not broadcast to %s",
                              psg_shape_text(&g->x, text, sizeof text));
    g->n_param = step;
    if (scale)
        op_param(c, "scale", shape, op_init_constant(1));
    op_param(c, scale ? "shift" : "value", shape, op_init_constant(0));
    op_out(c, g->x);
    psg_infer_scratch(c, 0, OP_PROD(c, 2, g->size) + g->n_param);
    psg_infer_unread(c, false, true);
    return psg_infer_status(c);
}

static int scale_shift_infer(struct psg_infer *c)
{
    return affine_infer(c, true);
}

static int add_param_infer(struct psg_infer *c)
{
    return affine_infer(c, false);
}

static struct psg_shape tile_shape(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = { .rank = g->x.rank + 1, .dim = { c->n } };
    for (int i = 0; i < g->x.rank; i++)
        shape.dim[i + 1] = g->x.dim[i];
    return shape;
}

/* y [N, x] = f(x, parameter r) */
static void with_param(const struct psg_call *c, enum psg_binary f, const psg_real *x,
                       int r, psg_real *y)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = tile_shape(c);
    int64_t sx[PSG_MAX_RANK], sp[PSG_MAX_RANK] = { 0 };
    psg_shape_strides(&shape, sx);
    for (int i = 0; i < g->x.rank; i++)
        sp[i + 1] = g->stride[i];
    c->be->binary(f, &shape, x, sx, c->param[r], sp, y);
}

static void affine_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const psg_real *x = op_in(c, 0);
    if (g->scale) {
        with_param(c, PSG_MUL, x, 0, c->out[0]);
        x = c->out[0];
    }
    with_param(c, PSG_ADD, x, g->scale, c->out[0]);
}

static void affine_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (!op_wants_din(c, 0))
        return;
    if (g->scale)
        with_param(c, PSG_MUL, c->dout[0], 0, c->din[0]);
    else
        op_copy(c->be, c->n * g->size, c->dout[0], c->din[0]);
}

/* row n of the parameter = x [N, x] summed over what repeats; tmp [N, n_param] */
static void rows_of(const struct psg_call *c, const psg_real *x, int r, psg_real *tmp)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = tile_shape(c);
    if (g->repeated) {
        c->be->reduce(PSG_REDUCE_SUM, &shape, g->repeated, x, tmp);
        x = tmp;
    }
    op_copy_rows(c->be, c->n, g->n_param, x, g->n_param, c->grad[r], c->grad_stride);
}

static void affine_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t n = c->n * g->size;
    if (g->scale && c->grad[0]) {
        op_binary(c->be, PSG_MUL, n, c->dout[0], op_in(c, 0), c->scratch);
        rows_of(c, c->scratch, 0, c->scratch + n);
    }
    if (c->grad[g->scale])
        rows_of(c, c->dout[0], g->scale, c->scratch + n);
}

static void affine_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->n_param, g->n_param };
    op_rows_norm_sample(c, affine_grad_sample, 1 + g->scale, size,
                        c->scratch + 2 * c->n * g->size);
}

static void affine_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    const int64_t size[] = { g->n_param, g->n_param };
    op_rows_clipped_sum(c, affine_grad_sample, 1 + g->scale, size,
                        c->scratch + 2 * c->n * g->size);
}

static void affine_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value y = l->in[0];
    if (g->scale)
        y = psg_g_mul(l->g, y, l->param[0]);
    l->out[0] = psg_g_add(l->g, y, l->param[g->scale]);
}

static const struct psg_op_case cases[] = {
    { "shape=4", "3x4" }, { "shape=3,1,1", "3x2x4" }, { "shape=2,3", "2x3" },
    { "shape=1", "2x3" }, { "shape=5", "5" },         { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define AFFINE_OP(NAME)                                                                    \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = attrs,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = NAME##_infer,                                                             \
        .forward = affine_forward,                                                         \
        .backward = affine_backward,                                                       \
        .grad_sample = affine_grad_sample,                                                 \
        .norm_sample = affine_norm_sample,                                                 \
        .clipped_sum = affine_clipped_sum,                                                 \
        .lower = affine_lower,                                                             \
        .cases = cases,                                                                    \
    }

AFFINE_OP(scale_shift);
AFFINE_OP(add_param);
