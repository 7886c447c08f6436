#include "psg/backend.h"

#include <string.h>

/* Keeps o * stride - pad + k * dilation far from the ends of int64_t. */
static const int64_t field_max = INT64_C(1) << 40;

static bool field_in(int64_t value, int64_t low)
{
    return value >= low && value <= field_max;
}

static int axis_infer(struct psg_window *w, int i, const char *place, struct psg_error *err)
{
    if (!field_in(w->in[i], 1) || !field_in(w->kernel[i], 1))
        return psg_fail(err, PSG_E_SHAPE, place,
                        "axis %d: input size %lld and kernel size %lld must be at least 1",
                        i, (long long)w->in[i], (long long)w->kernel[i]);
    if (!field_in(w->stride[i], 1) || !field_in(w->dilation[i], 1))
        return psg_fail(err, PSG_E_SHAPE, place,
                        "axis %d: stride %lld and dilation %lld must be at least 1", i,
                        (long long)w->stride[i], (long long)w->dilation[i]);
    if (!field_in(w->pad_lo[i], 0) || !field_in(w->pad_hi[i], 0))
        return psg_fail(err, PSG_E_SHAPE, place,
                        "axis %d: padding %lld, %lld must not be negative", i,
                        (long long)w->pad_lo[i], (long long)w->pad_hi[i]);
    int64_t span, padded = w->in[i] + w->pad_lo[i] + w->pad_hi[i];
    if (__builtin_mul_overflow(w->dilation[i], w->kernel[i] - 1, &span) || span >= padded)
        return psg_fail(
            err, PSG_E_SHAPE, place,
            "axis %d: kernel %lld with dilation %lld does not fit into the padded "
            "input of %lld",
            i, (long long)w->kernel[i], (long long)w->dilation[i], (long long)padded);
    w->out[i] = (padded - span - 1) / w->stride[i] + 1;
    return 0;
}

int psg_window_infer(struct psg_window *w, const char *place, struct psg_error *err)
{
    if (w->rank < 1 || w->rank > 3)
        return psg_fail(err, PSG_E_SHAPE, place, "a window has 1 to 3 axes, not %d",
                        w->rank);
    for (int i = 0; i < w->rank; i++) {
        int r = axis_infer(w, i, place, err);
        if (r)
            return r;
    }
    return 0;
}

const struct psg_backend *psg_backend_find(const char *name)
{
    if (strcmp(name, "ref") == 0)
        return psg_backend_ref();
    if (strcmp(name, "cpu") == 0)
        return psg_backend_cpu();
    return NULL;
}
