/* permute: axis i of y is axis dims[i] of x; transpose: two axes change places. Dimension
 * numbers count the batch, which stays where it is. dx = dy permuted back. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    struct psg_shape in, out; /* of one sample */
    int perm[PSG_MAX_RANK];
};

static const struct psg_attr_spec permute_attrs[] = {
    { "dims", PSG_ATTR_INT | PSG_ATTR_INTS,
      "required; counts the batch dimension, dims[0] = 0" },
    { NULL, 0, NULL },
};

static const struct psg_attr_spec transpose_attrs[] = {
    { "dim0", PSG_ATTR_INT, "required; counts the batch dimension" },
    { "dim1", PSG_ATTR_INT, "required; counts the batch dimension" },
    { NULL, 0, NULL },
};

static int finish(struct psg_infer *c)
{
    struct geom *g = c->geom;
    unsigned seen = 0;
    op_need_dtype(c, 0, PSG_REAL, "x");
    g->in = c->in[0].shape;
    g->out.rank = g->in.rank;
    if (g->in.rank == PSG_MAX_RANK)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "too many axes");
    for (int i = 0; i < g->in.rank && !psg_infer_status(c); i++) {
        g->out.dim[i] = g->in.dim[g->perm[i]];
        seen |= 1u << g->perm[i];
    }
    if (seen != (1u << g->in.rank) - 1)
        psg_infer_fail(c, PSG_E_INVALID, "dims", "dims must name every dimension once");
    op_out(c, g->out);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static int permute_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    int64_t dims[PSG_MAX_RANK];
    int rank = c->in[0].shape.rank, n = psg_infer_int_list(c, "dims", PSG_MAX_RANK, dims);
    if (n != rank + 1)
        psg_infer_fail(c, PSG_E_SHAPE, "dims", "dims must have %d numbers (batch included)",
                       rank + 1);
    else if (dims[0] != 0 && dims[0] != -n)
        psg_infer_fail(c, PSG_E_INVALID, "dims", "the batch must stay at dimension 0");
    for (int i = 0; i < rank && !psg_infer_status(c); i++)
        g->perm[i] = op_axis(c, "dims", dims[i + 1], rank);
    return psg_infer_status(c) ? psg_infer_status(c) : finish(c);
}

static int transpose_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    int rank = c->in[0].shape.rank;
    if (!psg_infer_has(c, "dim0") || !psg_infer_has(c, "dim1"))
        return psg_infer_fail(c, PSG_E_INVALID, NULL, "dim0 and dim1 are required");
    int a =
        op_axis(c, "dim0", psg_infer_int(c, "dim0", 1, -PSG_MAX_RANK, PSG_MAX_RANK), rank);
    int b =
        op_axis(c, "dim1", psg_infer_int(c, "dim1", 1, -PSG_MAX_RANK, PSG_MAX_RANK), rank);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    for (int i = 0; i < rank; i++)
        g->perm[i] = i == a ? b : i == b ? a : i;
    return finish(c);
}

/* between x [N, in] and y [N, out]: strides of x in the order of y */
static void move(const struct psg_call *c, bool forward, const psg_real *from, psg_real *to)
{
    const struct geom *g = c->geom;
    struct psg_shape shape = { .rank = g->out.rank + 1, .dim = { c->n } };
    int64_t sx[PSG_MAX_RANK] = { psg_shape_size(&g->in) }, sy[PSG_MAX_RANK];
    int64_t step[PSG_MAX_RANK];
    psg_shape_strides(&g->in, step);
    for (int i = 0; i < g->out.rank; i++) {
        shape.dim[i + 1] = g->out.dim[i];
        sx[i + 1] = step[g->perm[i]];
    }
    psg_shape_strides(&shape, sy);
    c->be->copy(&shape, sizeof(psg_real), from, forward ? sx : sy, to, forward ? sy : sx);
}

static void permute_forward(const struct psg_call *c)
{
    move(c, true, op_in(c, 0), c->out[0]);
}

static void permute_backward(const struct psg_call *c)
{
    if (op_wants_din(c, 0))
        move(c, false, c->dout[0], c->din[0]);
}

static void permute_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    l->out[0] = psg_g_transpose(l->g, l->in[0], g->perm);
}

static const struct psg_op_case permute_cases[] = {
    { "dims=0,2,1", "3x4" },
    { "dims=0,3,1,2", "2x3x4" },
    { "dims=0,-1,1,2", "2x3x1" },
    { NULL, NULL },
};

static const struct psg_op_case transpose_cases[] = {
    { "dim0=1 dim1=2", "3x4" },
    { "dim0=-1 dim1=1", "2x3x4" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

#define PERMUTE_OP(NAME)                                                                   \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = NAME##_attrs,                                                             \
        .inputs = inputs,                                                                  \
        .n_in_min = 1,                                                                     \
        .n_in_max = 1,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = NAME##_infer,                                                             \
        .forward = permute_forward,                                                        \
        .backward = permute_backward,                                                      \
        .lower = permute_lower,                                                            \
        .cases = NAME##_cases,                                                             \
    }

PERMUTE_OP(permute);
PERMUTE_OP(transpose);
