/* cross_entropy and nll_loss (whose output holds log p already) of one sample: loss = -sum
 * over positions r and classes c of q[r, c] log p[r, c].
 *
 *   output [N, A, C, B], C is class_dim, A and B the axes around it; log p = log_softmax
 *   over C;
 *   target int64 [N, A, B]: q[r, c] = valid_r ((1 - e) w_t [c = t] + e / C w_c)
 *   target real  [N, A, C, B]: q[r, c] = w_c ((1 - e) target[r, c] + e / C)
 *   e label_smoothing, w class weights (1), valid_r = (t != ignore_index)
 *   mean divides by sum_r valid_r w_t over the sample's own positions (0 if there are
 *   none), or by A B for real targets.
 *   doutput = dloss (p sum_c q - q); dtarget = -dloss w_c (1 - e) log p. */
#include "op/common.h"
#include "op/ops.h"

struct geom {
    int64_t outer, classes, inner;
    int64_t rows; /* positions of one sample: outer * inner */
    bool ids, mean, weighted;
    bool from_log; /* nll_loss */
    double smoothing;
    int64_t ignore; /* a class, or -1 */
    double weight[OP_LIST_MAX];
};

static const struct psg_attr_spec attrs[] = {
    { "reduction", PSG_ATTR_STRING, "mean or sum, over the positions of one sample" },
    { "weight", PSG_ATTR_REALS, "a number per class; 1" },
    { "ignore_index", PSG_ATTR_INT, "none; a target that does not count" },
    { "label_smoothing", PSG_ATTR_REAL, "0; 0 to 1" },
    { "class_dim", PSG_ATTR_INT, "1; counts the batch dimension" },
    { NULL, 0, NULL },
};

static const struct psg_attr_spec nll_attrs[] = {
    { "reduction", PSG_ATTR_STRING, "mean or sum, over the positions of one sample" },
    { "weight", PSG_ATTR_REALS, "a number per class; 1" },
    { "ignore_index", PSG_ATTR_INT, "none; a target that does not count" },
    { "class_dim", PSG_ATTR_INT, "1; counts the batch dimension" },
    { NULL, 0, NULL },
};

static int read_weight(struct psg_infer *c, struct geom *g)
{
    int n = psg_infer_real_list(c, "weight", OP_LIST_MAX, g->weight);
    g->weighted = n != 0;
    if (n > 0 && n != g->classes)
        psg_infer_fail(c, PSG_E_SHAPE, "weight", "%d weights for %lld classes", n,
                       (long long)g->classes);
    return psg_infer_status(c);
}

/* legal targets: the classes, and ignore_index */
static void read_ignore(struct psg_infer *c, struct geom *g)
{
    int64_t lo = 0, hi = g->classes, ignore = -1;
    g->ignore = -1;
    if (psg_infer_has(c, "ignore_index")) {
        ignore = psg_infer_int(c, "ignore_index", -100, INT32_MIN, INT32_MAX);
        if (!g->ids)
            psg_infer_fail(c, PSG_E_INVALID, "ignore_index",
                           "ignore_index needs class numbers as targets");
        lo = ignore < lo ? ignore : lo;
        hi = ignore >= hi ? ignore + 1 : hi;
        g->ignore = ignore >= 0 && ignore < g->classes ? ignore : -1;
    }
    if (g->ids)
        psg_infer_index_range(c, 1, lo, hi);
}

static int cross_entropy_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    const struct psg_shape *out = &c->in[0].shape, *target = &c->in[1].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "output"))
        return psg_infer_status(c);
    int axis =
        op_axis(c, "class_dim",
                psg_infer_int(c, "class_dim", 1, -PSG_MAX_RANK, PSG_MAX_RANK), out->rank);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    struct psg_shape want = { 0 };
    g->ids = c->in[1].dtype == PSG_I64;
    for (int i = 0; i < out->rank; i++)
        if (!g->ids || i != axis)
            want.dim[want.rank++] = out->dim[i];
    char text[120];
    if (!psg_shape_equal(&want, target))
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "the target of one sample must have shape %s",
                              psg_shape_text(&want, text, sizeof text));
    g->outer = op_span(out, 0, axis);
    g->classes = out->dim[axis];
    g->inner = op_span(out, axis + 1, out->rank);
    g->rows = g->outer * g->inner;
    g->mean = psg_infer_choice(c, "reduction", "mean", "mean|sum") == 0;
    g->smoothing = psg_infer_real(c, "label_smoothing", 0, 0, 1);
    read_weight(c, g);
    read_ignore(c, g);
    op_out(c, (struct psg_shape){ 0 });
    int64_t cells = OP_PROD(c, g->rows, g->classes, 2);
    psg_infer_save(c, cells, 0);
    psg_infer_scratch(c, 2 * g->classes, cells + 2 * g->rows + 1); /* two [rows, C] */
    return psg_infer_status(c);
}

static int nll_loss_infer(struct psg_infer *c)
{
    struct geom *g = c->geom;
    g->from_log = true;
    if (!op_need_dtype(c, 1, PSG_I64, "target"))
        return psg_infer_status(c);
    return cross_entropy_infer(c);
}

/* y [C] = scale * the class weights; zero where a target is ignored and `ignore` */
static void fill_weights(const struct psg_call *c, double scale, bool weighted, bool ignore,
                         psg_real *y)
{
    const struct geom *g = c->geom;
    c->be->fill(g->classes, (psg_real)scale, y);
    for (int64_t i = 0; i < g->classes && weighted && g->weighted; i++)
        c->be->fill(1, (psg_real)(scale * g->weight[i]), y + i);
    if (ignore && g->ignore >= 0)
        c->be->fill(1, 0, y + g->ignore);
}

/* q [N, rows, C] from class numbers */
static void spread_ids(const struct psg_call *c, psg_real *q)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->rows, cells = rows * g->classes;
    psg_real *table = c->scratch, *smooth = table + g->classes, *tmp = smooth + g->classes;
    psg_real *of_row = tmp + cells, *scaled = of_row + rows, *total = scaled + rows;
    fill_weights(c, 1, true, true, table);
    c->be->gather(1, rows, g->classes, 1, table, 0, op_ids(c, 1), of_row);
    op_scale(c->be, rows, 1 - g->smoothing, of_row, scaled);
    c->be->fill(cells, 0, q);
    c->be->scatter_add(rows, 1, g->classes, 1, op_ids(c, 1), scaled, q, g->classes);
    if (g->smoothing > 0) {
        fill_weights(c, 1, false, true, table);
        c->be->gather(1, rows, g->classes, 1, table, 0, op_ids(c, 1), scaled);
        fill_weights(c, g->smoothing / (double)g->classes, true, false, smooth);
        struct psg_shape shape = PSG_SHAPE(rows, g->classes);
        c->be->binary(PSG_MUL, &shape, scaled, (const int64_t[]){ 1, 0 }, smooth,
                      (const int64_t[]){ 0, 1 }, tmp);
        c->be->axpy(cells, 1, tmp, q);
    }
    if (!g->mean)
        return;
    c->be->sum_rows(c->n, g->rows, 1, of_row, total, 1);
    /* nothing counts: divide by 1, so that the loss is 0 */
    c->be->fill(c->n, 0, scaled);
    op_binary(c->be, PSG_EQ, c->n, total, scaled, scaled);
    op_binary(c->be, PSG_ADD, c->n, total, scaled, total);
    op_binary_rows(c->be, PSG_DIV, c->n, g->rows * g->classes, q, total, q);
}

/* q [N, rows, C] from probabilities */
static void spread_real(const struct psg_call *c, psg_real *q)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->rows, cells = rows * g->classes;
    double scale = g->mean && g->rows > 0 ? 1 / (double)g->rows : 1;
    psg_real *table = c->scratch, *tmp = c->scratch + 2 * g->classes;
    op_swap(c->be, c->n * g->outer, g->classes, g->inner, op_in(c, 1), tmp);
    c->be->fill(cells, (psg_real)(g->smoothing / (double)g->classes), q);
    c->be->axpy(cells, (psg_real)(1 - g->smoothing), tmp, q);
    fill_weights(c, scale, true, false, table);
    op_binary_cols(c->be, PSG_MUL, rows, g->classes, q, table, q);
}

static void cross_entropy_forward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->rows, cells = rows * g->classes;
    psg_real *logp = c->saved, *q = logp + cells, *tmp = c->scratch + 2 * g->classes;
    op_swap(c->be, c->n * g->outer, g->classes, g->inner, op_in(c, 0), logp);
    if (!g->from_log)
        c->be->softmax(rows, g->classes, true, logp, logp);
    if (g->ids)
        spread_ids(c, q);
    else
        spread_real(c, q);
    op_binary(c->be, PSG_MUL, cells, q, logp, tmp);
    if (g->ids) {
        /* a class that does not count must not bring in its -inf */
        psg_real *zeros = tmp + cells;
        c->be->fill(cells, 0, zeros);
        c->be->select(cells, q, tmp, zeros, tmp);
    }
    c->be->sum_rows(c->n, g->rows * g->classes, 1, tmp, c->out[0], 1);
    c->be->unary(PSG_NEG, c->n, c->out[0], c->out[0]);
}

static void target_backward(const struct psg_call *c, const psg_real *logp, psg_real *tmp)
{
    const struct geom *g = c->geom;
    double scale = g->mean && g->rows > 0 ? 1 / (double)g->rows : 1;
    fill_weights(c, -scale * (1 - g->smoothing), true, false, c->scratch);
    op_binary_cols(c->be, PSG_MUL, c->n * g->rows, g->classes, logp, c->scratch, tmp);
    op_binary_rows(c->be, PSG_MUL, c->n, g->rows * g->classes, tmp, c->dout[0], tmp);
    op_swap(c->be, c->n * g->outer, g->inner, g->classes, tmp, c->din[1]);
}

static void cross_entropy_backward(const struct psg_call *c)
{
    const struct geom *g = c->geom;
    int64_t rows = c->n * g->rows, cells = rows * g->classes;
    const psg_real *logp = c->saved, *q = logp + cells;
    psg_real *tmp = c->scratch + 2 * g->classes;
    if (!g->ids && op_wants_din(c, 1))
        target_backward(c, logp, tmp);
    if (!op_wants_din(c, 0))
        return;
    op_binary_rows(c->be, PSG_MUL, c->n, g->rows * g->classes, q, c->dout[0], tmp);
    c->be->unary(PSG_NEG, cells, tmp, tmp);
    if (!g->from_log)
        c->be->softmax_bwd(rows, g->classes, true, logp, tmp, tmp);
    op_swap(c->be, c->n * g->outer, g->inner, g->classes, tmp, c->din[0]);
}

/* [outer, classes, inner] -> [rows, classes] */
static psg_value rows_first(struct psg_lower *l, psg_value v)
{
    const struct geom *g = l->geom;
    v = OP_RESHAPE(l, v, g->outer, g->classes, g->inner);
    v = psg_g_transpose(l->g, v, (const int[]){ 0, 2, 1 });
    return OP_RESHAPE(l, v, g->rows, g->classes);
}

/* q of class numbers, and *divisor of the mean */
static psg_value lower_ids(struct psg_lower *l, psg_value *divisor)
{
    const struct geom *g = l->geom;
    psg_value id = OP_RESHAPE(l, l->in[1], g->rows);
    psg_value hot = psg_g_onehot(l->g, id, g->classes);
    if (g->ignore >= 0) {
        int64_t dim[1] = { g->classes };
        struct psg_shape shape = psg_shape_make(1, dim);
        hot = psg_g_mul(l->g, hot,
                        psg_g_binary(l->g, PSG_NE, psg_g_iota(l->g, &shape, 0),
                                     psg_g_scalar(l->g, (double)g->ignore)));
    }
    psg_value w = g->weighted ? op_g_list(l, g->classes, g->weight) : psg_g_scalar(l->g, 1);
    psg_value counted = psg_g_mul(l->g, hot, w);
    *divisor = psg_g_sum(l->g, counted, 3u);
    psg_value is_row = op_g_unsqueeze(l, psg_g_sum(l->g, hot, 2u), 1);
    psg_value even =
        psg_g_mul(l->g, w, psg_g_scalar(l->g, g->smoothing / (double)g->classes));
    return psg_g_add(l->g, psg_g_mul(l->g, counted, psg_g_scalar(l->g, 1 - g->smoothing)),
                     psg_g_mul(l->g, is_row, even));
}

static psg_value lower_real(struct psg_lower *l, psg_value *divisor)
{
    const struct geom *g = l->geom;
    psg_value q =
        psg_g_mul(l->g, rows_first(l, l->in[1]), psg_g_scalar(l->g, 1 - g->smoothing));
    q = psg_g_add(l->g, q, psg_g_scalar(l->g, g->smoothing / (double)g->classes));
    *divisor = psg_g_scalar(l->g, (double)g->rows);
    return g->weighted ? psg_g_mul(l->g, q, op_g_list(l, g->classes, g->weight)) : q;
}

static void cross_entropy_lower(struct psg_lower *l)
{
    const struct geom *g = l->geom;
    psg_value zero = psg_g_scalar(l->g, 0), divisor;
    psg_value logp = rows_first(l, l->in[0]);
    if (!g->from_log)
        logp = op_g_softmax(l, logp, 1, true);
    psg_value q = g->ids ? lower_ids(l, &divisor) : lower_real(l, &divisor);
    psg_value terms = psg_g_mul(l->g, q, logp);
    if (g->ids)
        terms = psg_g_select(l->g, q, terms, zero);
    psg_value loss = psg_g_neg(l->g, psg_g_sum(l->g, terms, 3u));
    if (g->mean) {
        psg_value none = psg_g_binary(l->g, PSG_EQ, divisor, zero);
        loss = psg_g_div(l->g, loss, psg_g_add(l->g, divisor, none));
    }
    l->out[0] = loss;
}

static const struct psg_op_case cases[] = {
    { "", "5 i64<5:-" },
    { "label_smoothing=0.2 weight=0.5,2,1.25", "3 i64<3:-" },
    { "reduction=sum", "4x3 i64<4:3" },
    { "ignore_index=1 weight=0.5,2,1.25,0.25", "4x6 i64<4:6" },
    { "ignore_index=-100 label_smoothing=0.1", "3x2x2 i64<3:2x2" },
    { "class_dim=2 ignore_index=0 label_smoothing=0.3 weight=1,2,3", "5x3 i64<3:5" },
    { "class_dim=-1", "2x3x4 i64<4:2x3" },
    { "", "5 5" },
    { "label_smoothing=0.15 weight=0.5,2,1.25,0.25", "4x3 4x3" },
    { "reduction=sum class_dim=2", "3x4 3x4" },
    { NULL, NULL },
};

static const struct psg_op_case nll_cases[] = {
    { "", "5 i64<5:-" },
    { "reduction=sum weight=0.5,2,1.25,0.25", "4x3 i64<4:3" },
    { "ignore_index=1 class_dim=2", "6x4 i64<4:6" },
    { NULL, NULL },
};

static const char *const inputs[] = { "output", "target", NULL };

#define CLASS_LOSS_OP(NAME, ATTRS, CASES)                                                  \
    const struct psg_op layer_##NAME = {                                                   \
        .name = #NAME,                                                                     \
        .attrs = ATTRS,                                                                    \
        .inputs = inputs,                                                                  \
        .n_in_min = 2,                                                                     \
        .n_in_max = 2,                                                                     \
        .geom_size = sizeof(struct geom),                                                  \
        .infer = NAME##_infer,                                                             \
        .forward = cross_entropy_forward,                                                  \
        .backward = cross_entropy_backward,                                                \
        .lower = cross_entropy_lower,                                                      \
        .cases = CASES,                                                                    \
    }

CLASS_LOSS_OP(cross_entropy, attrs, cases);
CLASS_LOSS_OP(nll_loss, nll_attrs, nll_cases);
