#include "op/pool.h"

#include <string.h>

static const int64_t ones[3] = { 1, 1, 1 }, zeros[3] = { 0, 0, 0 };

/* PyTorch's rule: round up, but the last window must start inside the input or its left
 * padding. */
static void round_up(struct psg_window *w, int i)
{
    int64_t reach = w->dilation[i] * (w->kernel[i] - 1) + 1;
    int64_t room = w->in[i] + w->pad_lo[i] + w->pad_hi[i] - reach;
    if (room % w->stride[i] != 0 && w->out[i] * w->stride[i] < w->in[i] + w->pad_lo[i])
        w->out[i]++;
}

static int read_window(struct psg_infer *c, struct psg_window *w, bool has_dilation)
{
    psg_infer_ints(c, "kernel_size", w->rank, NULL, 1, INT32_MAX, w->kernel);
    psg_infer_ints(c, "stride", w->rank, w->kernel, 1, INT32_MAX, w->stride);
    psg_infer_ints(c, "padding", w->rank, zeros, 0, INT32_MAX, w->pad_lo);
    memcpy(w->pad_hi, w->pad_lo, sizeof w->pad_hi);
    memcpy(w->dilation, ones, sizeof ones);
    if (has_dilation)
        psg_infer_ints(c, "dilation", w->rank, ones, 1, INT32_MAX, w->dilation);
    bool ceil_mode = psg_infer_bool(c, "ceil_mode", false);
    if (psg_infer_status(c))
        return psg_infer_status(c);
    for (int i = 0; i < w->rank; i++)
        if (w->pad_lo[i] > (w->dilation[i] * (w->kernel[i] - 1) + 1) / 2)
            return psg_infer_fail(c, PSG_E_RANGE, "padding",
                                  "padding may be at most half of the kernel size");
    struct psg_error err;
    if (psg_window_infer(w, "", &err))
        return psg_infer_fail(c, err.status, NULL, "%s", err.text);
    for (int i = 0; i < w->rank && ceil_mode; i++)
        round_up(w, i);
    return 0;
}

int pool_infer(struct psg_infer *c, struct pool_geom *g, int rank, bool has_dilation)
{
    struct psg_shape shape = c->in[0].shape;
    if (!op_need_dtype(c, 0, PSG_REAL, "x"))
        return psg_infer_status(c);
    if (shape.rank != rank + 1)
        return psg_infer_fail(c, PSG_E_SHAPE, NULL,
                              "a sample must have %d axes (channels first), not %d",
                              rank + 1, shape.rank);
    g->win.rank = rank;
    g->outer = shape.dim[0];
    memcpy(g->win.in, shape.dim + 1, (size_t)rank * sizeof *g->win.in);
    if (read_window(c, &g->win, has_dilation))
        return psg_infer_status(c);
    memcpy(shape.dim + 1, g->win.out, (size_t)rank * sizeof *g->win.out);
    g->n_in = op_prod(c, rank, g->win.in);
    g->n_out = op_prod(c, rank, g->win.out);
    g->n_kernel = op_prod(c, rank, g->win.kernel);
    op_out(c, shape);
    return psg_infer_status(c);
}

struct psg_window pool_grown(const struct pool_geom *g)
{
    struct psg_window w = g->win;
    for (int i = 0; i < w.rank; i++) {
        int64_t reach =
            (w.out[i] - 1) * w.stride[i] + w.dilation[i] * (w.kernel[i] - 1) + 1;
        int64_t need = reach - w.in[i] - w.pad_lo[i];
        w.pad_hi[i] = need > w.pad_hi[i] ? need : w.pad_hi[i];
    }
    return w;
}

psg_value pool_patches(struct psg_lower *l, const struct pool_geom *g, psg_value v,
                       double pad_value)
{
    struct psg_window w = pool_grown(g);
    return OP_RESHAPE(l, psg_g_unfold(l->g, v, &w, pad_value), g->outer, g->n_kernel,
                      g->n_out);
}

psg_value pool_output(struct psg_lower *l, const struct pool_geom *g, psg_value v)
{
    struct psg_shape shape = { .rank = g->win.rank + 1, .dim = { g->outer } };
    memcpy(shape.dim + 1, g->win.out, (size_t)g->win.rank * sizeof *g->win.out);
    return psg_g_reshape(l->g, v, &shape);
}
