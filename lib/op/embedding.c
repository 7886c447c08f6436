/* embedding: y[n, i..., D] = weight[id[n, i...], D].
 *
 *   id int64 [N, I...], weight [V, D]. The row padding_idx is used going forward and gets
 *   no gradient.
 *   dweight[n, v] = sum over i with id[n, i] = v of dy[n, i]
 *   |dweight[n]|^2: ids are merged first, so that only touched rows are ever formed. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t count, rows, dim; /* ids of one sample, V, D */
    int64_t padding;          /* -1: none */
};

static const struct psg_attr_spec attrs[] = {
    { "num_embeddings", PSG_ATTR_INT, "required" },
    { "embedding_dim", PSG_ATTR_INT, "required" },
    { "padding_idx", PSG_ATTR_INT,
      "none; a row without gradient, negative counts from the end" },
    { "max_norm", PSG_ATTR_REAL, "refused: it rewrites the table from the samples' ids" },
    { "scale_grad_by_freq", PSG_ATTR_BOOL,
      "false; true is refused, it counts over the batch" },
    { "sparse", PSG_ATTR_BOOL, "no effect" },
    { NULL, 0, NULL },
};

static int embedding_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    struct psg_shape shape = c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_I64, "ids"))
        return psg_infer_status(c);
    if (psg_infer_has(c, "max_norm"))
        return psg_infer_fail(
            c, PSG_E_UNSUPPORTED, "max_norm",
            "max_norm rewrites table rows from the ids of a batch, outside of "
            "the gradient; leave it out and use weight_decay");
    if (psg_infer_bool(c, "scale_grad_by_freq", false))
        return psg_infer_fail(
            c, PSG_E_UNSUPPORTED, "scale_grad_by_freq",
            "scale_grad_by_freq counts ids over the batch, which mixes samples");
    g->rows = psg_infer_int_required(c, "num_embeddings", 1, INT64_MAX);
    g->dim = psg_infer_int_required(c, "embedding_dim", 1, INT64_MAX);
    g->count = psg_shape_size(&shape);
    g->padding = -1;
    if (psg_infer_has(c, "padding_idx"))
        g->padding = psg_infer_int(c, "padding_idx", 0, -g->rows, g->rows - 1);
    if (psg_infer_has(c, "padding_idx") && g->padding < 0)
        g->padding += g->rows;
    if (shape.rank == PSG_MAX_RANK)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL, "the ids have too many axes");
    shape.dim[shape.rank++] = g->dim;
    op_param(c, "weight", PSG_SHAPE(g->rows, g->dim),
             (struct psg_init){ PSG_INIT_NORMAL, 1, g->padding + 1 });
    op_out(c, shape);
    psg_infer_index_range(c, 0, 0, g->rows);
    psg_infer_save(c, 0, g->count);
    psg_infer_scratch(c, g->dim, OP_PROD(c, g->count, g->dim));
    psg_infer_unread(c, true, true);
    return psg_infer_status(c);
}

static void embedding_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    c->be->gather(1, c->n * g->count, g->rows, g->dim, c->param[0], 0, op_ids(c, 0),
                  c->out[0]);
}

static void embedding_grad_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (!c->grad[0])
        return;
    for (int64_t n = 0; n < c->n; n++)
        c->be->fill(g->rows * g->dim, 0, c->grad[0] + n * c->grad_stride);
    c->be->scatter_add(c->n, g->count, g->rows, g->dim, op_ids(c, 0), c->dout[0],
                       c->grad[0], c->grad_stride);
    for (int64_t n = 0; n < c->n && g->padding >= 0; n++)
        c->be->fill(g->dim, 0, c->grad[0] + n * c->grad_stride + g->padding * g->dim);
}

static void embedding_norm_sample(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (!c->use[0])
        return;
    int64_t size = g->count * g->dim, *slot = c->saved_i64;
    c->be->merge_ids(c->n, g->count, g->rows, g->padding, op_ids(c, 0), slot);
    c->be->fill(c->n * size, 0, c->scratch);
    c->be->scatter_add(c->n, g->count, g->count, g->dim, slot, c->dout[0], c->scratch,
                       size);
    c->be->add_sqnorm(c->n, size, c->scratch, size, c->sq);
}

static void embedding_clipped_sum(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    if (!c->sum[0])
        return;
    psg_real *kept = c->scratch, *weighted = kept + g->dim;
    psg_real *padding_row = c->sum[0] + g->padding * g->dim;
    op_scale_rows(c->be, c->n, g->count * g->dim, c->weight, c->dout[0], weighted);
    if (g->padding >= 0)
        op_copy(c->be, g->dim, padding_row, kept);
    c->be->scatter_add(1, c->n * g->count, g->rows, g->dim, op_ids(c, 0), weighted,
                       c->sum[0], 0);
    if (g->padding >= 0)
        op_copy(c->be, g->dim, kept, padding_row);
}

/* the padding row without its gradient: a table of its own stands in for it */
static void embedding_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value table = l->param[0];
    if (g->padding >= 0) {
        int64_t dim[2] = { g->rows, 1 };
        struct psg_shape rows = psg_shape_make(2, dim);
        psg_value is_padding = psg_g_binary(l->g, PSG_EQ, psg_g_iota(l->g, &rows, 0),
                                            psg_g_scalar(l->g, (double)g->padding));
        table = psg_g_select(l->g, is_padding, psg_g_detach(l->g, table), table);
    }
    l->out[0] = psg_g_gather(l->g, table, l->in[0], 0);
}

static const struct psg_op_case cases[] = {
    { "num_embeddings=6 embedding_dim=3", "i64<6:4" },
    { "num_embeddings=4 embedding_dim=5 padding_idx=2", "i64<4:7" },
    { "num_embeddings=5 embedding_dim=2 padding_idx=-1", "i64<5:3x4" },
    { "num_embeddings=3 embedding_dim=1", "i64<3:-" },
    { NULL, NULL },
};

static const char *const inputs[] = { "ids", NULL };

const struct psg_op layer_embedding = {
    .name = "embedding",
    .attrs = attrs,
    .inputs = inputs,
    .n_in_min = 1,
    .n_in_max = 1,
    .geom_size = sizeof(struct geom),
    .infer = embedding_infer,
    .forward = embedding_forward,
    .grad_sample = embedding_grad_sample,
    .norm_sample = embedding_norm_sample,
    .clipped_sum = embedding_clipped_sum,
    .lower = embedding_lower,
    .cases = cases,
};
