/* concat: y = the inputs one after the other along axis `dim`. dx_k = its part of dy. */
#include "op/common.h"
#include "op/ops.h"

enum { PARTS_MAX = 32 };

struct geom {
    int axis, n_in;
    int64_t outer, part[PARTS_MAX], row; /* a sample is [outer, row]; part k of a row */
};

static const struct psg_attr_spec attrs[] = {
    { "dim", PSG_ATTR_INT, "1; counts the batch dimension" },
    { NULL, 0, NULL },
};

static int concat_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    struct psg_shape out = c->in[0].shape;
    g->n_in = c->n_in;
    g->axis = op_axis(c, "dim", psg_infer_int(c, "dim", 1, -PSG_MAX_RANK, PSG_MAX_RANK),
                      out.rank);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    if (out.rank == 0)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "scalars have no axis to join along");
    g->outer = op_span(&out, 0, g->axis);
    out.dim[g->axis] = 0;
    for (int k = 0; k < c->n_in; k++) {
        struct psg_shape s = c->in[k].shape;
        int64_t along = g->axis < s.rank ? s.dim[g->axis] : 0;
        if (!op_need_dtype(c, k, PSG_REAL, "x"))
            return psg_infer_status(c);
        g->part[k] = op_span(&s, g->axis, s.rank);
        s.dim[g->axis] = out.dim[g->axis];
        if (!psg_shape_equal(&s, &out))
            return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                                  "input %d differs from input 0 in another axis than dim",
                                  k);
        out.dim[g->axis] += along;
        g->row += g->part[k];
    }
    op_out(c, out);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static void concat_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t at = 0;
    for (int k = 0; k < g->n_in; k++) {
        op_copy_rows(c->be, c->n * g->outer, g->part[k], op_in(c, k), g->part[k],
                     c->out[0] + at, g->row);
        at += g->part[k];
    }
}

static void concat_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t at = 0;
    for (int k = 0; k < g->n_in; k++) {
        if (op_wants_din(c, k))
            op_copy_rows(c->be, c->n * g->outer, g->part[k], c->dout[0] + at, g->row,
                         c->din[k], g->part[k]);
        at += g->part[k];
    }
}

static void concat_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    l->out[0] = psg_g_concat(l->g, l->in, g->n_in, g->axis);
}

static const struct psg_op_case cases[] = {
    { "", "3 5" },           { "dim=2", "2x3x2 2x1x2 2x2x2" },
    { "dim=-1", "2x3 2x4" }, { "", "2x3" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

const struct psg_op layer_concat = {
    .name = "concat",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = PARTS_MAX,
    .geom_size = sizeof(struct geom),
    .infer = concat_infer,
    .forward = concat_forward,
    .backward = concat_backward,
    .lower = concat_lower,
    .cases = cases,
};
