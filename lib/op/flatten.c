/* flatten: y = x with the axes start_dim .. end_dim made one. Dimension numbers count the
 * batch as PyTorch's do: start_dim = 1 is the first axis of a sample. dx = dy. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t size;
    struct psg_shape out;
};

static const struct psg_attr_spec attrs[] = {
    { "start_dim", PSG_ATTR_INT, "1; counts the batch dimension, at least 1" },
    { "end_dim", PSG_ATTR_INT, "-1; counts the batch dimension" },
    { NULL, 0, NULL },
};

static int flatten_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    const struct psg_shape *in = &c->in[0].shape;
    op_need_dtype(c, 0, PSG_REAL, "x");
    g->size = psg_shape_size(in);
    int64_t start = psg_infer_int(c, "start_dim", 1, -PSG_MAX_RANK, PSG_MAX_RANK);
    int64_t end = psg_infer_int(c, "end_dim", -1, -PSG_MAX_RANK, PSG_MAX_RANK);
    if (in->rank == 0) {
        /* PyTorch: the batch axis alone stays as it is */
        g->out = *in;
    } else {
        int from = op_axis(c, "start_dim", start, in->rank);
        int to = op_axis(c, "end_dim", end, in->rank);
        if (from > to)
            psg_infer_fail(c, PSG_E_INVALID, "end_dim", "end_dim comes before start_dim");
        for (int i = 0; i < in->rank && !psg_infer_status(c); i++) {
            if (i <= from || i > to)
                g->out.dim[g->out.rank++] = in->dim[i];
            else
                g->out.dim[g->out.rank - 1] *= in->dim[i];
        }
    }
    op_out(c, g->out);
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static void flatten_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    op_copy(c->be, c->n * g->size, op_in(c, 0), c->out[0]);
}

static void flatten_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (op_wants_din(c, 0))
        op_copy(c->be, c->n * g->size, c->dout[0], c->din[0]);
}

static void flatten_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    l->out[0] = psg_g_reshape(l->g, l->in[0], &g->out);
}

static const struct psg_op_case cases[] = {
    { "", "2x3x4" },
    { "start_dim=2", "2x3x4" },
    { "start_dim=1 end_dim=2", "2x3x4" },
    { "start_dim=-2 end_dim=-1", "2x3x4" },
    { "", "5" },
    { NULL, NULL },
};

static const char *const inputs[] = { "x", NULL };

const struct psg_op layer_flatten = {
    .name = "flatten",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct geom),
    .infer = flatten_infer,
    .forward = flatten_forward,
    .backward = flatten_backward,
    .lower = flatten_lower,
    .cases = cases,
};
