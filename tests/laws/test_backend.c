/* Runs the cases of law 2 for every version of a backend, and holds the cases for matrix
 * products, rows and per-sample gradients. */
#include "backend_cases.h"

static const struct psg_backend *ref(void)
{
    return psg_backend_ref();
}

static void gemm_case(const struct psg_backend *be, struct seed *s)
{
    struct psg_gemm g = { .trans_a = seed_int(s, 0, 1), .trans_b = seed_int(s, 0, 1) };
    g.m = seed_size(s, 150);
    g.n = seed_size(s, 150);
    g.k = seed_size(s, 600);
    g.lda = (g.trans_a ? g.m : g.k) + seed_int(s, 0, 3);
    g.ldb = (g.trans_b ? g.k : g.n) + seed_int(s, 0, 3);
    g.ldc = g.n + seed_int(s, 0, 3);
    g.alpha = (psg_real)(seed_int(s, 0, 1) ? 1 : -0.75);
    g.beta = (psg_real)((double)seed_int(s, 0, 2) * 0.5);
    int64_t count = seed_int(s, 0, 3);
    int64_t size_a = (g.trans_a ? g.k : g.m) * g.lda,
            size_b = (g.trans_b ? g.n : g.k) * g.ldb;
    int64_t step_a = seed_int(s, 0, 1) ? size_a : 0,
            step_b = seed_int(s, 0, 1) ? size_b : 0;
    _cleanup_buffer_ struct buffer a = buffer_random(s, size_a * 3, -1, 1);
    _cleanup_buffer_ struct buffer b = buffer_random(s, size_b * 3, -1, 1);
    _cleanup_buffer_ struct buffer c = buffer_random(s, g.m * g.ldc * 3, -1, 1);
    if (g.beta == 0 && c.n > 0)
        c.at[0] = (psg_real)NAN; /* must not be read */
    _cleanup_buffer_ struct buffer want = buffer_clone(&c), scale = buffer_abs(&c);
    _cleanup_buffer_ struct buffer aa = buffer_abs(&a), ab = buffer_abs(&b);
    struct psg_gemm ga = g;
    ga.alpha = (psg_real)fabs((double)g.alpha);
    if (seed_int(s, 0, 1)) {
        be->gemm_batched(&g, count, a.at, step_a, b.at, step_b, c.at, g.m * g.ldc);
        ref()->gemm_batched(&g, count, a.at, step_a, b.at, step_b, want.at, g.m * g.ldc);
        ref()->gemm_batched(&ga, count, aa.at, step_a, ab.at, step_b, scale.at,
                            g.m * g.ldc);
    } else {
        be->gemm(&g, a.at, b.at, c.at);
        ref()->gemm(&g, a.at, b.at, want.at);
        ref()->gemm(&ga, aa.at, ab.at, scale.at);
    }
    buffer_close("gemm", &c, &want, &scale, (double)g.k + 4, 0);
}

static void normalize_case(const struct psg_backend *be, struct seed *s)
{
    int64_t rows = seed_size(s, 20), dim = seed_size(s, 700);
    bool centre = seed_int(s, 0, 1);
    double shift = centre ? seed_real(s, -100, 100) : 0;
    _cleanup_buffer_ struct buffer x = buffer_random(s, rows * dim, shift - 2, shift + 2);
    _cleanup_buffer_ struct buffer h = buffer_make(rows * dim), r = buffer_make(rows);
    _cleanup_buffer_ struct buffer h0 = buffer_make(rows * dim), r0 = buffer_make(rows);
    be->normalize(rows, dim, 1e-5, centre, x.at, h.at, r.at);
    ref()->normalize(rows, dim, 1e-5, centre, x.at, h0.at, r0.at);
    /* x - mean loses what |x| / spread says; a row of one equal value is all of that loss
     */
    double loss = dim > 1 ? 1 + fabs(shift) : 1 + fabs(shift) * 320;
    buffer_close("rstd", &r, &r0, NULL, 16 * loss, 0);
    buffer_close("xhat", &h, &h0, NULL, 16 * loss, 1);
    _cleanup_buffer_ struct buffer dy = buffer_random(s, rows * dim, -1, 1);
    _cleanup_buffer_ struct buffer dx = buffer_make(rows * dim),
                                   dx0 = buffer_make(rows * dim);
    be->normalize_bwd(rows, dim, centre, h0.at, r0.at, dy.at, dx.at);
    ref()->normalize_bwd(rows, dim, centre, h0.at, r0.at, dy.at, dx0.at);
    double top = 0;
    for (int64_t i = 0; i < rows; i++)
        top = fmax(top, (double)r0.at[i]);
    buffer_close("normalize_bwd", &dx, &dx0, NULL, 32, 4 * top);
}

static void softmax_case(const struct psg_backend *be, struct seed *s)
{
    int64_t rows = seed_size(s, 20), dim = seed_size(s, 500);
    bool log_space = seed_int(s, 0, 1);
    double spread = seed_real(s, 0.1, 50);
    _cleanup_buffer_ struct buffer x = buffer_random(s, rows * dim, -spread, spread);
    if (rows > 1)
        for (int64_t i = 0; i < dim; i++)
            x.at[i] = (psg_real)-INFINITY;
    if (rows > 2 && dim > 0)
        x.at[dim + seed_int(s, 0, dim - 1)] = (psg_real)-INFINITY;
    if (rows > 3 && dim > 0)
        x.at[2 * dim + seed_int(s, 0, dim - 1)] = (psg_real)NAN;
    _cleanup_buffer_ struct buffer y = buffer_make(rows * dim),
                                   y0 = buffer_make(rows * dim);
    be->softmax(rows, dim, log_space, x.at, y.at);
    ref()->softmax(rows, dim, log_space, x.at, y0.at);
    buffer_close("softmax", &y, &y0, NULL, 16 + 2 * spread, log_space ? 1 : 0x1p-100);
    _cleanup_buffer_ struct buffer alias = buffer_clone(&x);
    be->softmax(rows, dim, log_space, alias.at, alias.at);
    buffer_close("softmax in place", &alias, &y, NULL, 0, 0);
    for (int64_t i = 0; i < rows * dim; i++)
        if (!isfinite(y0.at[i]))
            y0.at[i] = log_space ? -1 : 0;
    _cleanup_buffer_ struct buffer dy = buffer_random(s, rows * dim, -1, 1);
    _cleanup_buffer_ struct buffer dx = buffer_make(rows * dim);
    be->softmax_bwd(rows, dim, log_space, y0.at, dy.at, dx.at);
    _cleanup_buffer_ struct buffer dx0 = buffer_make(rows * dim);
    ref()->softmax_bwd(rows, dim, log_space, y0.at, dy.at, dx0.at);
    buffer_close("softmax_bwd", &dx, &dx0, NULL, (double)dim + 16, 1);
    be->softmax_bwd(rows, dim, log_space, y0.at, dy.at, dy.at);
    buffer_close("softmax_bwd in place", &dy, &dx, NULL, 0, 0);
}

static void rows_case(const struct psg_backend *be, struct seed *s)
{
    int64_t n = seed_size(s, 5), t = seed_size(s, 300), d = seed_size(s, 200);
    _cleanup_buffer_ struct buffer x = buffer_random(s, n * t * d, -1, 1);
    _cleanup_buffer_ struct buffer b = buffer_random(s, d, -1, 1);
    _cleanup_buffer_ struct buffer y = buffer_make(n * t * d), y0 = buffer_make(n * t * d);
    const psg_real *bias = seed_int(s, 0, 3) ? b.at : NULL;
    be->add_bias(n * t, d, x.at, bias, y.at);
    ref()->add_bias(n * t, d, x.at, bias, y0.at);
    buffer_close("add_bias", &y, &y0, NULL, 1, 0);
    _cleanup_buffer_ struct buffer same = buffer_clone(&x);
    be->add_bias(n * t, d, same.at, bias, same.at);
    buffer_close("add_bias in place", &same, &y0, NULL, 1, 0);
    int64_t stride = d + seed_int(s, 0, 5);
    _cleanup_buffer_ struct buffer sum = buffer_random(s, n * stride, 5, 6);
    _cleanup_buffer_ struct buffer sum0 = buffer_clone(&sum), scale = buffer_clone(&sum);
    _cleanup_buffer_ struct buffer ax = buffer_abs(&x);
    be->sum_rows(n, t, d, x.at, sum.at, stride);
    ref()->sum_rows(n, t, d, x.at, sum0.at, stride);
    ref()->sum_rows(n, t, d, ax.at, scale.at, stride);
    buffer_close("sum_rows", &sum, &sum0, &scale, (double)t, 0);
}

static void grads_case(const struct psg_backend *be, struct seed *s)
{
    int64_t n = seed_size(s, 20), p = seed_size(s, 3000), stride = p + seed_int(s, 0, 9);
    _cleanup_buffer_ struct buffer g = buffer_random(s, n * stride, -1, 1);
    _cleanup_buffer_ struct buffer c = buffer_random(s, n, 0, 1);
    if (n > 1 && p > 0) {
        int64_t bad = seed_int(s, 0, n - 1);
        g.at[bad * stride + seed_int(s, 0, p - 1)] =
            (psg_real)(seed_int(s, 0, 1) ? NAN : INFINITY);
        c.at[bad] = 0;
    }
    double *sq = shared_zeros(40, sizeof *sq), *sq0 = sq + 20;
    for (int64_t i = 0; i < n; i++)
        sq[i] = sq0[i] = seed_real(s, 0, 3);
    be->add_sqnorm(n, p, g.at, stride, sq);
    ref()->add_sqnorm(n, p, g.at, stride, sq0);
    for (int64_t i = 0; i < n; i++) /* double sums, whatever psg_real is */
        ck_assert_msg(number_close(sq[i], sq0[i], ((double)p + 4) * DBL_EPSILON * sq0[i]),
                      "add_sqnorm[%lld]: %.17g, reference %.17g", (long long)i, sq[i],
                      sq0[i]);
    shared_free(sq);
    _cleanup_buffer_ struct buffer sum = buffer_random(s, p, -1, 1);
    _cleanup_buffer_ struct buffer sum0 = buffer_clone(&sum), scale = buffer_abs(&sum);
    _cleanup_buffer_ struct buffer ag = buffer_abs(&g);
    be->add_weighted(n, p, c.at, g.at, stride, sum.at);
    ref()->add_weighted(n, p, c.at, g.at, stride, sum0.at);
    ref()->add_weighted(n, p, c.at, ag.at, stride, scale.at);
    buffer_close("add_weighted", &sum, &sum0, &scale, (double)n + 1, 0);
}

const struct backend_case backend_matrix_cases[] = {
    { "gemm", 40, gemm_case },       { "normalize", 40, normalize_case },
    { "softmax", 40, softmax_case }, { "rows", 40, rows_case },
    { "grads", 40, grads_case },     { NULL, 0, NULL },
};

/* one Check loop test per list; the loop index counts cases of all versions of the backend
 */
static const struct backend_case *const lists[] = { backend_matrix_cases,
                                                    backend_elementwise_cases,
                                                    backend_window_cases };

static int case_count(const struct backend_case *list)
{
    int n = 0;
    while (list[n].name)
        n++;
    return n;
}

static void run_case(const struct backend_case *list, int i)
{
    const struct psg_backend *be = tested_backend(i / case_count(list));
    const struct backend_case *c = &list[i % case_count(list)];
    for (int round = 0; round < c->rounds; round++) {
        struct seed s = { (uint64_t)round * 1000003 + (uint64_t)i % case_count(list) };
        c->run(be, &s);
    }
}

START_TEST(matrix_kernels_equal_ref)
{
    run_case(lists[0], _i);
}
END_TEST

START_TEST(elementwise_kernels_equal_ref)
{
    run_case(lists[1], _i);
}
END_TEST

START_TEST(window_kernels_equal_ref)
{
    run_case(lists[2], _i);
}
END_TEST

int main(void)
{
    int n_versions = tested_backends();
    if (n_versions == 0)
        return EXIT_SUCCESS;
    Suite *suite = suite_create("backend");
    TCase *tc = tcase_create("law2");
    tcase_add_loop_test(tc, matrix_kernels_equal_ref, 0, n_versions * case_count(lists[0]));
    tcase_add_loop_test(tc, elementwise_kernels_equal_ref, 0,
                        n_versions * case_count(lists[1]));
    tcase_add_loop_test(tc, window_kernels_equal_ref, 0, n_versions * case_count(lists[2]));
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
