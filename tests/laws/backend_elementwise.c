/* Cases of law 2: elementwise functions, shapes and tables. */
#include "backend_cases.h"

static const struct psg_backend *ref(void)
{
    return psg_backend_ref();
}

/* where each function is interesting; the second range goes to the ends */
static const double unary_range[PSG_UNARY_COUNT][2][2] = {
    [PSG_NEG] = { { -2, 2 }, { -1e30, 1e30 } },
    [PSG_EXP] = { { -2, 2 }, { -95, 90 } },
    [PSG_LOG] = { { 1e-3, 3 }, { -1, 1e30 } },
    [PSG_LOG1P] = { { -0.9, 2 }, { -1.1, 1e9 } },
    [PSG_EXPM1] = { { -1, 1 }, { -90, 90 } },
    [PSG_SQRT] = { { 0, 4 }, { -1, 1e30 } },
    [PSG_RSQRT] = { { 0, 4 }, { -1, 1e30 } },
    [PSG_TANH] = { { -1, 1 }, { -30, 30 } },
    [PSG_SIGMOID] = { { -4, 4 }, { -95, 95 } },
    [PSG_ERF] = { { -1, 1 }, { -7, 7 } },
    [PSG_ABS] = { { -2, 2 }, { -1e30, 1e30 } },
    [PSG_SIGN] = { { -2, 2 }, { -1, 1 } },
    [PSG_FLOOR] = { { -3, 3 }, { -1e9, 1e9 } },
    [PSG_SIN] = { { -4, 4 }, { -1e4, 1e4 } },
    [PSG_COS] = { { -4, 4 }, { -1e4, 1e4 } },
    [PSG_RECIP] = { { -2, 2 }, { -1e30, 1e30 } },
    [PSG_BF16] = { { -2, 2 }, { -1e38, 1e38 } },
};

/* a few numbers that break careless code, somewhere in x */
static void plant_special(struct seed *s, const struct buffer *x)
{
    static const double special[] = { 0, -0.0, NAN,   INFINITY, -INFINITY,
                                      1, -1,   1e-30, -1e-30 };
    for (size_t i = 0; i < sizeof special / sizeof *special && x->n > 0; i++)
        x->at[seed_int(s, 0, x->n - 1)] = (psg_real)special[i];
}

static void unary_case(const struct psg_backend *be, struct seed *s)
{
    for (int f = 0; f < PSG_UNARY_COUNT; f++) {
        const double *range = unary_range[f][seed_int(s, 0, 1)];
        int64_t n = seed_size(s, 2000);
        _cleanup_buffer_ struct buffer x = buffer_random(s, n, range[0], range[1]);
        plant_special(s, &x);
        _cleanup_buffer_ struct buffer y = buffer_make(n), y0 = buffer_make(n);
        char name[32];
        snprintf(name, sizeof name, "unary %d", f);
        be->unary(f, n, x.at, y.at);
        ref()->unary(f, n, x.at, y0.at);
        /* 4 ulp; below 1e-36 results may be flushed to zero */
        buffer_close(name, &y, &y0, NULL, 4, 1e-36 / REAL_EPS);
        be->unary(f, n, x.at, x.at);
        buffer_close("unary in place", &x, &y, NULL, 0, 0);
    }
}

static void act_case(const struct psg_backend *be, struct seed *s)
{
    for (int f = 0; f < PSG_ACT_COUNT; f++) {
        const psg_real p[2] = { (psg_real)seed_real(s, 0.1, 1),
                                (psg_real)seed_real(s, 1, 3) };
        double wide = seed_int(s, 0, 2) ? 6 : 85;
        int64_t n = seed_size(s, 2000);
        _cleanup_buffer_ struct buffer x = buffer_random(s, n, -wide, wide);
        if (f != PSG_ACT_EXP && n > 0)
            x.at[seed_int(s, 0, n - 1)] = 0;
        _cleanup_buffer_ struct buffer y = buffer_make(n), y0 = buffer_make(n);
        char name[32];
        snprintf(name, sizeof name, "act %d", f);
        be->act(f, p, n, x.at, y.at);
        ref()->act(f, p, n, x.at, y0.at);
        /* functions that cross zero are accurate to eps of max(|x|, 1) there */
        buffer_close(name, &y, &y0, NULL, 4, 0.5);
        _cleanup_buffer_ struct buffer dy = buffer_random(s, n, -1, 1), dx = buffer_make(n);
        _cleanup_buffer_ struct buffer dx0 = buffer_make(n);
        be->act_bwd(f, p, n, x.at, y0.at, dy.at, dx.at);
        ref()->act_bwd(f, p, n, x.at, y0.at, dy.at, dx0.at);
        snprintf(name, sizeof name, "act_bwd %d", f);
        buffer_close(name, &dx, &dx0, NULL, 16, 1);
        be->act_bwd(f, p, n, x.at, y0.at, dy.at, dy.at);
        buffer_close("act_bwd in place", &dy, &dx, NULL, 0, 0);
        be->act(f, p, n, x.at, x.at);
        buffer_close("act in place", &x, &y, NULL, 0, 0);
        plant_special(s, &x);
        for (int64_t i = 0; i < n; i++)
            x.at[i] = isnan(x.at[i]) ? x.at[i] : 0;
        be->act(f, p, n, x.at, y.at);
        for (int64_t i = 0; i < n; i++)
            ck_assert_msg(!isnan(x.at[i]) || isnan(y.at[i]), "act %d swallows NaN", f);
    }
}

/* strides of an operand that is dense except for broadcast axes; returns its size */
static int64_t draw_operand(struct seed *s, const struct psg_shape *shape, int64_t *stride)
{
    int64_t size = 1;
    bool all = seed_int(s, 0, 2) == 0;
    for (int i = shape->rank - 1; i >= 0; i--) {
        bool broadcast = !all && seed_int(s, 0, 1);
        stride[i] = broadcast ? 0 : size;
        size *= broadcast ? 1 : shape->dim[i];
    }
    return size;
}

static struct psg_shape draw_shape(struct seed *s, int max_rank, int64_t max_size)
{
    struct psg_shape shape = { .rank = (int)seed_int(s, 0, max_rank) };
    int64_t size = 1;
    for (int i = 0; i < shape.rank; i++) {
        int64_t room = max_size / (size > 0 ? size : 1);
        shape.dim[i] = seed_size(s, room < 70 ? room : 70);
        size *= shape.dim[i];
    }
    return shape;
}

static void binary_case(const struct psg_backend *be, struct seed *s)
{
    for (int f = 0; f < PSG_BINARY_COUNT; f++) {
        struct psg_shape shape = draw_shape(s, 4, 6000);
        int64_t stride_a[PSG_MAX_RANK], stride_b[PSG_MAX_RANK], n = psg_shape_size(&shape);
        int64_t size_a = draw_operand(s, &shape, stride_a);
        int64_t size_b = draw_operand(s, &shape, stride_b);
        _cleanup_buffer_ struct buffer a = buffer_random(s, size_a, -2, 2);
        _cleanup_buffer_ struct buffer b = buffer_random(s, size_b, -2, 2);
        for (int64_t i = 0; i < a.n && f >= PSG_EQ; i++) /* so that equality happens */
            a.at[i] = (psg_real)floor((double)a.at[i]);
        for (int64_t i = 0; i < b.n && f >= PSG_EQ; i++)
            b.at[i] = (psg_real)floor((double)b.at[i]);
        plant_special(s, &a);
        plant_special(s, &b);
        _cleanup_buffer_ struct buffer y = buffer_make(n), y0 = buffer_make(n);
        char name[32];
        snprintf(name, sizeof name, "binary %d", f);
        be->binary(f, &shape, a.at, stride_a, b.at, stride_b, y.at);
        ref()->binary(f, &shape, a.at, stride_a, b.at, stride_b, y0.at);
        buffer_close(name, &y, &y0, NULL, f == PSG_POW ? 4 : 1, 0);
        if (size_a == n) {
            be->binary(f, &shape, a.at, stride_a, b.at, stride_b, a.at);
            buffer_close("binary in place", &a, &y, NULL, 0, 0);
        }
    }
}

static void simple_case(const struct psg_backend *be, struct seed *s)
{
    int64_t n = seed_size(s, 5000);
    _cleanup_buffer_ struct buffer a = buffer_random(s, n, -1, 1), y = buffer_make(n);
    _cleanup_buffer_ struct buffer b = buffer_random(s, n, -1, 1), y0 = buffer_make(n);
    _cleanup_buffer_ struct buffer mask = buffer_random(s, n, -1, 1);
    for (int64_t i = 0; i < n; i++)
        mask.at[i] = mask.at[i] < 0 ? 0 : i % 7 ? 1 : (psg_real)NAN;
    be->select(n, mask.at, a.at, b.at, y.at);
    ref()->select(n, mask.at, a.at, b.at, y0.at);
    buffer_close("select", &y, &y0, NULL, 0, 0);
    psg_real alpha = (psg_real)seed_real(s, -2, 2);
    _cleanup_buffer_ struct buffer scale = buffer_abs(&y0);
    for (int64_t i = 0; i < n; i++)
        scale.at[i] += (psg_real)fabs((double)alpha * (double)a.at[i]);
    be->axpy(n, alpha, a.at, y.at);
    ref()->axpy(n, alpha, a.at, y0.at);
    buffer_close("axpy", &y, &y0, &scale, 2, 0);
    be->fill(n, alpha, y.at);
    ref()->fill(n, alpha, y0.at);
    buffer_close("fill", &y, &y0, NULL, 0, 0);
}

/* dst[shape] = src[shape]: axes in any order, reversed, spread out or broadcast */
static void copy_case(const struct psg_backend *be, struct seed *s)
{
    static const size_t sizes[] = { sizeof(psg_real), sizeof(int64_t), 1, 12 };
    size_t size = sizes[seed_int(s, 0, 3)];
    struct psg_shape shape = draw_shape(s, 4, 5000);
    int64_t stride[2][PSG_MAX_RANK], first[2] = { 0, 0 }, total[2] = { 1, 1 };
    for (int side = 0; side < 2; side++) {
        bool used[PSG_MAX_RANK] = { false };
        for (int left = shape.rank; left > 0; left--) {
            int axis = (int)seed_int(s, 0, shape.rank - 1);
            while (used[axis])
                axis = (axis + 1) % shape.rank;
            used[axis] = true;
            bool broadcast = side == 0 && seed_int(s, 0, 5) == 0;
            int64_t gap = seed_int(s, 0, 3) == 0 ? seed_int(s, 1, 3) : 1;
            stride[side][axis] = broadcast ? 0 : total[side] * gap;
            total[side] *= broadcast ? 1 : gap * shape.dim[axis];
            if (seed_int(s, 0, 3) == 0 && shape.dim[axis] > 0) {
                first[side] += stride[side][axis] * (shape.dim[axis] - 1);
                stride[side][axis] = -stride[side][axis];
            }
        }
    }
    int64_t reals[2] = { total[0] * 3, total[1] * 3 }; /* 12 bytes are 3 floats */
    _cleanup_buffer_ struct buffer src = buffer_random(s, reals[0], -1, 1);
    _cleanup_buffer_ struct buffer dst = buffer_random(s, reals[1], -1, 1);
    _cleanup_buffer_ struct buffer want = buffer_clone(&dst);
    be->copy(&shape, size, (char *)src.at + first[0] * (int64_t)size, stride[0],
             (char *)dst.at + first[1] * (int64_t)size, stride[1]);
    ref()->copy(&shape, size, (char *)src.at + first[0] * (int64_t)size, stride[0],
                (char *)want.at + first[1] * (int64_t)size, stride[1]);
    buffer_close("copy guards", &dst, &dst, NULL, 0, 0);
    ck_assert_msg(memcmp(dst.at, want.at, (size_t)reals[1] * sizeof(psg_real)) == 0,
                  "copy of %d axes, element size %zu", shape.rank, size);
}

static void reduce_case(const struct psg_backend *be, struct seed *s)
{
    for (int f = 0; f < PSG_REDUCE_COUNT; f++) {
        struct psg_shape shape = draw_shape(s, 4, 8000), kept = { 0 };
        unsigned mask = (unsigned)seed_int(s, 0, (1 << shape.rank) - 1);
        double terms = 1;
        for (int i = 0; i < shape.rank; i++) {
            if (mask >> i & 1)
                terms *= (double)shape.dim[i];
            else
                kept.dim[kept.rank++] = shape.dim[i];
        }
        _cleanup_buffer_ struct buffer x = buffer_random(s, psg_shape_size(&shape), -1, 1);
        if (f != PSG_REDUCE_SUM && x.n > 0 && seed_int(s, 0, 1))
            x.at[seed_int(s, 0, x.n - 1)] = (psg_real)NAN;
        _cleanup_buffer_ struct buffer ax = buffer_abs(&x);
        int64_t n = psg_shape_size(&kept);
        _cleanup_buffer_ struct buffer y = buffer_make(n), y0 = buffer_make(n);
        _cleanup_buffer_ struct buffer scale = buffer_make(n);
        be->reduce(f, &shape, mask, x.at, y.at);
        ref()->reduce(f, &shape, mask, x.at, y0.at);
        ref()->reduce(PSG_REDUCE_SUM, &shape, mask, ax.at, scale.at);
        buffer_close("reduce", &y, &y0, &scale, f == PSG_REDUCE_SUM ? terms : 0, 0);
    }
}

static void argmax_case(const struct psg_backend *be, struct seed *s)
{
    int64_t outer = seed_size(s, 9), axis = seed_size(s, 70) + 1, inner = seed_size(s, 40);
    _cleanup_buffer_ struct buffer x = buffer_random(s, outer * axis * inner, -9, 9);
    for (int64_t i = 0; i < x.n; i++)
        x.at[i] = (psg_real)floor((double)x.at[i]); /* ties */
    if (x.n > 0 && seed_int(s, 0, 1))
        x.at[seed_int(s, 0, x.n - 1)] = (psg_real)NAN;
    _cleanup_buffer_ struct buffer y = buffer_make(outer * inner), y0 = buffer_make(y.n);
    be->argmax(outer, axis, inner, x.at, y.at);
    ref()->argmax(outer, axis, inner, x.at, y0.at);
    buffer_close("argmax", &y, &y0, NULL, 0, 0);
}

static void table_case(const struct psg_backend *be, struct seed *s)
{
    int64_t batch = seed_size(s, 4), count = seed_size(s, 60), rows = seed_size(s, 20);
    int64_t dim = seed_size(s, 40), stride = seed_int(s, 0, 1) ? 0 : rows * dim + 3;
    int64_t *id = shared_zeros(batch * count, sizeof *id);
    for (int64_t i = 0; i < batch * count; i++)
        id[i] = seed_int(s, -2, rows + 1);
    _cleanup_buffer_ struct buffer table =
        buffer_random(s, stride ? batch * stride : rows * dim, -1, 1);
    int64_t n = batch * count * dim;
    _cleanup_buffer_ struct buffer y = buffer_make(n), y0 = buffer_make(n);
    be->gather(batch, count, rows, dim, table.at, stride, id, y.at);
    ref()->gather(batch, count, rows, dim, table.at, stride, id, y0.at);
    buffer_close("gather", &y, &y0, NULL, 0, 0);
    _cleanup_buffer_ struct buffer x = buffer_random(s, n, -1, 1),
                                   want = buffer_clone(&table);
    be->scatter_add(batch, count, rows, dim, id, x.at, table.at, stride);
    ref()->scatter_add(batch, count, rows, dim, id, x.at, want.at, stride);
    buffer_close("scatter_add", &table, &want, NULL, 0, 0); /* same order: same bits */
    shared_free(id);
}

static void merge_case(const struct psg_backend *be, struct seed *s)
{
    int64_t batch = seed_size(s, 3), count = seed_size(s, 1500),
            rows = seed_int(s, 1, 2000);
    int64_t skip = seed_int(s, -1, 3), n = batch * count;
    int64_t *id = shared_zeros(3 * n + 1, sizeof *id);
    for (int64_t i = 0; i < n; i++)
        id[i] = seed_int(s, 0, 1) ? seed_int(s, -2, 9) : seed_int(s, -2, rows + 1);
    be->merge_ids(batch, count, rows, skip, id, id + n);
    ref()->merge_ids(batch, count, rows, skip, id, id + 2 * n);
    ck_assert_msg(memcmp(id + n, id + 2 * n, (size_t)n * sizeof *id) == 0,
                  "merge_ids of %lld ids", (long long)count);
    _cleanup_buffer_ struct buffer y = buffer_make(n), y0 = buffer_make(n);
    be->convert(n, id, y.at);
    ref()->convert(n, id, y0.at);
    buffer_close("convert", &y, &y0, NULL, 0, 0);
    shared_free(id);
}

/* a step of a recurrent layer and back, rows a little apart, some steps masked out */
static void cell_case(const struct psg_backend *be, struct seed *s)
{
    for (int kind = 0; kind < PSG_CELL_COUNT; kind++) {
        int64_t n = seed_size(s, 6), u = seed_size(s, 70), ld = 4 * u + 3;
        _cleanup_buffer_ struct buffer a = buffer_random(s, n * ld, -3, 3);
        _cleanup_buffer_ struct buffer b = buffer_random(s, n * ld, -3, 3);
        _cleanup_buffer_ struct buffer h_prev = buffer_random(s, n * ld, -1, 1);
        _cleanup_buffer_ struct buffer c_prev = buffer_random(s, n * ld, -2, 2);
        _cleanup_buffer_ struct buffer dy = buffer_random(s, n * ld, -1, 1);
        _cleanup_buffer_ struct buffer mask = buffer_random(s, n, 0, 1);
        for (int64_t i = 0; i < n; i++)
            mask.at[i] = (psg_real)seed_int(s, 0, 1);
        struct psg_cell cell = {
            .kind = (enum psg_cell_kind)kind, .n = n, .hidden = u, .ld_mask = 1,
            .ld_gates = ld, .ld_h_prev = ld, .ld_h = ld, .ld_c = ld, .ld_dy = ld,
            .mask = seed_int(s, 0, 1) ? mask.at : NULL, .c_prev = c_prev.at,
            .h_prev = seed_int(s, 0, 3) ? h_prev.at : NULL,
            .dy = seed_int(s, 0, 1) ? dy.at : NULL,
        };
        _cleanup_buffer_ struct buffer h = buffer_random(s, n * ld, -1, 1);
        _cleanup_buffer_ struct buffer c = buffer_random(s, n * ld, -1, 1);
        _cleanup_buffer_ struct buffer dh = buffer_random(s, n * u, -1, 1);
        _cleanup_buffer_ struct buffer dc = buffer_random(s, n * u, -1, 1);
        struct buffer *mine[] = { &a, &b, &h, &c, &dh, &dc };
        struct buffer want[6];
        for (int i = 0; i < 6; i++)
            want[i] = buffer_clone(mine[i]);
        for (int pass = 0; pass < 2; pass++) {
            struct psg_cell one = cell, two = cell;
            one.gates = a.at, one.from_h = b.at, one.h = h.at, one.c = c.at;
            one.dh = dh.at, one.dc = dc.at;
            two.gates = want[0].at, two.from_h = want[1].at, two.h = want[2].at;
            two.c = want[3].at, two.dh = want[4].at, two.dc = want[5].at;
            (pass ? be->cell_bwd : be->cell)(&one);
            (pass ? ref()->cell_bwd : ref()->cell)(&two);
            for (int i = 0; i < 6; i++)
                buffer_close(pass ? "cell_bwd" : "cell", mine[i], &want[i], NULL,
                             pass ? 64 : 16, 1);
        }
        for (int i = 0; i < 6; i++)
            buffer_freep(&want[i]);
    }
}

const struct backend_case backend_elementwise_cases[] = {
    { "unary", 40, unary_case },   { "act", 40, act_case },
    { "binary", 40, binary_case }, { "simple", 40, simple_case },
    { "copy", 40, copy_case },     { "reduce", 40, reduce_case },
    { "argmax", 40, argmax_case }, { "tables", 40, table_case },
    { "merge", 40, merge_case },   { "cell", 60, cell_case },
    { NULL, 0, NULL },
};
