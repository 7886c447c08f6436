/* The reference kernels against numbers from outside (act_values.inc, hand-computed cases)
 * and against identities that hold by definition. Runs in double. */
#include <math.h>
#include <string.h>

#include "psg/backend.h"
#include "suite.h"

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof((a)[0])))

static const double tight = 1e-14;

static void check_row(const char *what, int64_t n, const psg_real *got, const double *want,
                      double tolerance)
{
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) <= tolerance,
                      "%s[%lld] is %.17g, not %.17g", what, (long long)i, (double)got[i],
                      want[i]);
}

/* a fixed sequence in (-1, 1) without a pattern that small kernels could miss */
static void fill_wave(int64_t n, double phase, psg_real *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (psg_real)sin(12.9898 * (double)i + phase);
}

static double dot(int64_t n, const psg_real *a, const psg_real *b)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

START_TEST(gemm_by_hand)
{
    /* [1 2 3; 4 5 6] * [1 0; 0 1; 1 1] = [4 5; 10 11] */
    const psg_real a[] = { 1, 2, 3, 4, 5, 6 }, at[] = { 1, 4, 2, 5, 3, 6 };
    const psg_real b[] = { 1, 0, 0, 1, 1, 1 }, bt[] = { 1, 0, 1, 0, 1, 1 };
    const double want[] = { 4, 5, 10, 11 }, scaled[] = { 8 + 3, 10 + 3, 20 + 3, 22 + 3 };
    const struct psg_backend *be = psg_backend_ref();
    for (int form = 0; form < 4; form++) {
        bool ta = form & 1, tb = form & 2;
        psg_real c[] = { NAN, NAN, NAN, NAN };
        struct psg_gemm g = { ta, tb, 2, 2, 3, ta ? 2 : 3, tb ? 3 : 2, 2, 1, 0 };
        be->gemm(&g, ta ? at : a, tb ? bt : b, c);
        check_row("c", 4, c, want, 0);
        psg_real d[] = { 6, 6, 6, 6 };
        g.alpha = 2;
        g.beta = (psg_real)0.5;
        be->gemm(&g, ta ? at : a, tb ? bt : b, d);
        check_row("d", 4, d, scaled, 0);
    }
}
END_TEST

START_TEST(activations_have_pytorch_values)
{
    static const struct {
        enum psg_act f;
        psg_real p[2];
        double y[3], slope[3]; /* at -1.5, 0.25, 2 */
    } row[] = {
#include "act_values.inc"
    };
    const psg_real x[] = { -1.5, 0.25, 2 }, one[] = { 1, 1, 1 };
    ck_assert_int_eq(COUNT(row), PSG_ACT_COUNT);
    for (int64_t i = 0; i < COUNT(row); i++) {
        psg_real y[3], dx[3];
        ck_assert_int_eq(row[i].f, i);
        psg_backend_ref()->act(row[i].f, row[i].p, 3, x, y);
        psg_backend_ref()->act_bwd(row[i].f, row[i].p, 3, x, y, one, dx);
        check_row("y", 3, y, row[i].y, tight);
        check_row("slope", 3, dx, row[i].slope, tight);
    }
}
END_TEST

/* <w-gradient, dw> and <dx, x> both equal <conv(x, w), dy>: the two adjoints of a bilinear
 * map */
START_TEST(conv_adjoints)
{
    static const struct psg_conv conv[] = {
        { { 1, { 9 }, { 3 }, { 4 }, { 2 }, { 1 }, { 0 }, { 0 } }, 2, 3, 1 },
        { { 2, { 6, 5 }, { 3, 2 }, { 0 }, { 2, 1 }, { 1, 2 }, { 1, 2 }, { 2, 1 } },
          4,
          6,
          2 },
        { { 3,
            { 3, 4, 5 },
            { 2, 2, 3 },
            { 0 },
            { 1, 2, 1 },
            { 1, 1, 2 },
            { 1, 0, 2 },
            { 0, 1, 2 } },
          3,
          3,
          3 },
    };
    const struct psg_backend *be = psg_backend_ref();
    for (int64_t i = 0; i < COUNT(conv); i++) {
        struct psg_conv c = conv[i];
        ck_assert_int_eq(psg_window_infer(&c.win, "conv", NULL), 0);
        int64_t n_in = c.in_channels, n_out = c.out_channels;
        int64_t n_w = c.out_channels * c.in_channels / c.groups;
        for (int a = 0; a < c.win.rank; a++) {
            n_in *= c.win.in[a];
            n_out *= c.win.out[a];
            n_w *= c.win.kernel[a];
        }
        psg_real x[600], w[300], y[2000], dy[2000], dx[600], dw[600];
        fill_wave(2 * n_in, 0, x);
        fill_wave(n_w, 1, w);
        fill_wave(2 * n_out, 2, dy);
        be->conv(&c, 2, x, w, NULL, y, NULL);
        be->conv_bwd_data(&c, 2, dy, w, dx, NULL);
        be->conv_bwd_weight(&c, 2, x, dy, dw, n_w, NULL);
        double want = dot(2 * n_out, y, dy);
        ck_assert_double_eq_tol(dot(2 * n_in, dx, x), want, 1e-11);
        ck_assert_double_eq_tol(dot(n_w, dw, w) + dot(n_w, dw + n_w, w), want, 1e-11);
    }
}
END_TEST

START_TEST(conv_by_hand)
{
    /* 3x3 map 1..9, kernel [1 2; 3 4], padding 1 on every side, stride 2: windows start at
     * -1, 1 */
    struct psg_conv c = {
        { 2, { 3, 3 }, { 2, 2 }, { 0 }, { 2, 2 }, { 1, 1 }, { 1, 1 }, { 1, 1 } }, 1, 1, 1
    };
    const psg_real x[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, w[] = { 1, 2, 3, 4 },
                   bias[] = { 10 };
    const double want[] = { 4 * 1 + 10, 3 * 2 + 4 * 3 + 10, 2 * 4 + 4 * 7 + 10,
                            1 * 5 + 2 * 6 + 3 * 8 + 4 * 9 + 10 };
    psg_real y[4];
    ck_assert_int_eq(psg_window_infer(&c.win, "conv", NULL), 0);
    ck_assert_int_eq(c.win.out[0], 2);
    psg_backend_ref()->conv(&c, 1, x, w, bias, y, NULL);
    check_row("y", 4, y, want, 0);
}
END_TEST

START_TEST(fold_is_adjoint_of_unfold)
{
    struct psg_window w = { 2,        { 7, 5 }, { 3, 2 }, { 0 },
                            { 2, 1 }, { 1, 3 }, { 1, 0 }, { 2, 1 } };
    ck_assert_int_eq(psg_window_infer(&w, "unfold", NULL), 0);
    int64_t n = 2 * 35, m = 2 * 6 * w.out[0] * w.out[1];
    psg_real x[70], back[70], patches[1000], weight[1000];
    fill_wave(n, 0, x);
    fill_wave(m, 1, weight);
    psg_backend_ref()->unfold(&w, 2, 0, x, patches);
    psg_backend_ref()->fold(&w, 2, weight, back);
    ck_assert_double_eq_tol(dot(m, patches, weight), dot(n, x, back), 1e-12);
}
END_TEST

START_TEST(pools_by_hand)
{
    /* 1..9 as 3x3, window 2, stride 2, padding 1 below and right by ceil_mode: out 2x2 */
    struct psg_window w = { 2,        { 3, 3 }, { 2, 2 }, { 2, 2 },
                            { 2, 2 }, { 1, 1 }, { 0 },    { 0 } };
    const psg_real x[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    const double top[] = { 5, 6, 8, 9 }, mean[] = { 3, 4.5, 7.5, 9 };
    const double by4[] = { 3, 2.25, 3.75, 2.25 };
    psg_real y[4], dx[9];
    int64_t arg[4];
    psg_backend_ref()->max_pool(&w, 1, x, y, arg);
    check_row("max", 4, y, top, 0);
    psg_backend_ref()->max_pool_bwd(&w, 1, y, arg, dx);
    const double back[] = { 0, 0, 0, 0, 5, 6, 0, 8, 9 };
    check_row("max_bwd", 9, dx, back, 0);
    psg_backend_ref()->avg_pool(&w, 1, true, 0, x, y);
    check_row("ceil", 4, y, mean, 0);
    w.pad_hi[0] = w.pad_hi[1] = 1;
    psg_backend_ref()->avg_pool(&w, 1, true, 0, x, y);
    check_row("include", 4, y, by4, 0);
    psg_backend_ref()->avg_pool(&w, 1, false, 0, x, y);
    check_row("exclude", 4, y, mean, 0);
    psg_backend_ref()->avg_pool(&w, 1, false, 4, x, y);
    check_row("divisor", 4, y, by4, 0);
    psg_backend_ref()->avg_pool_bwd(&w, 1, false, 0, y, dx);
    const double avg_back[] = { .75, .75, 1.125, .75, .75, 1.125, 1.875, 1.875, 2.25 };
    check_row("avg_bwd", 9, dx, avg_back, 0);
}
END_TEST

START_TEST(rows_by_hand)
{
    const struct psg_backend *be = psg_backend_ref();
    const psg_real x[] = { 1, 2, 3, 6, -INFINITY, -INFINITY, -INFINITY, -INFINITY };
    psg_real xhat[4], rstd[1], y[8];
    be->normalize(1, 4, 0.5, true, x, xhat, rstd); /* mean 3, variance 3.5, sqrt(4) = 2 */
    const double centred[] = { -1, -0.5, 0, 1.5 };
    check_row("xhat", 4, xhat, centred, 0);
    ck_assert_double_eq((double)rstd[0], 0.5);
    be->normalize(1, 4, 3.5, false, x, xhat, rstd); /* mean square 12.5, sqrt(16) = 4 */
    const double rms[] = { 0.25, 0.5, 0.75, 1.5 };
    check_row("rms", 4, xhat, rms, 0);
    be->softmax(2, 4, false, x, y);
    const double e = exp(1), s = 1 + e + e * e + exp(5);
    const double soft[] = { 1 / s, e / s, e * e / s, exp(5) / s, 0, 0, 0, 0 };
    check_row("softmax", 8, y, soft, tight);
    be->softmax(1, 4, true, x, y);
    const double logs[] = { -log(s), 1 - log(s), 2 - log(s), 5 - log(s) };
    check_row("log_softmax", 4, y, logs, tight);
}
END_TEST

/* d/dt <f(x + t v), dy> at t = 0 by central differences against <bwd(dy), v> */
START_TEST(row_derivatives)
{
    const struct psg_backend *be = psg_backend_ref();
    enum { DIM = 7 };
    psg_real x[DIM], v[DIM], dy[DIM], at[2][DIM], y[2][DIM], y0[DIM], dx[DIM], rstd[1];
    const double h = 1e-5;
    fill_wave(DIM, 0, x);
    fill_wave(DIM, 1, v);
    fill_wave(DIM, 2, dy);
    for (int kind = 0; kind < 4; kind++) {
        bool flag = kind & 1;
        for (int side = 0; side < 2; side++) {
            for (int i = 0; i < DIM; i++)
                at[side][i] = (psg_real)((double)x[i] + (side ? h : -h) * (double)v[i]);
            if (kind < 2)
                be->softmax(1, DIM, flag, at[side], y[side]);
            else
                be->normalize(1, DIM, 1e-3, flag, at[side], y[side], rstd);
        }
        if (kind < 2) {
            be->softmax(1, DIM, flag, x, y0);
            be->softmax_bwd(1, DIM, flag, y0, dy, dx);
        } else {
            be->normalize(1, DIM, 1e-3, flag, x, y0, rstd);
            be->normalize_bwd(1, DIM, flag, y0, rstd, dy, dx);
        }
        double want = (dot(DIM, y[1], dy) - dot(DIM, y[0], dy)) / (2 * h);
        /* eps in the variance makes mean(xhat^2) slightly less than 1; bwd is exact for it
         */
        ck_assert_double_eq_tol(dot(DIM, dx, v), want, 1e-8);
    }
}
END_TEST

START_TEST(reduce_copy_and_tables)
{
    const struct psg_backend *be = psg_backend_ref();
    const psg_real x[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }; /* [2, 3, 2] */
    struct psg_shape shape = PSG_SHAPE(2, 3, 2);
    psg_real y[12];
    const double middle[] = { 1 + 3 + 5, 2 + 4 + 6, 7 + 9 + 11, 8 + 10 + 12 };
    be->reduce(PSG_REDUCE_SUM, &shape, 1u << 1, x, y);
    check_row("sum", 4, y, middle, 0);
    const double ends[] = { 8, 10, 12 };
    be->reduce(PSG_REDUCE_MAX, &shape, 1u << 0 | 1u << 2, x, y);
    check_row("max", 3, y, ends, 0);
    struct psg_shape empty = PSG_SHAPE(2, 0);
    be->reduce(PSG_REDUCE_MIN, &empty, 1u << 1, x, y);
    ck_assert(isinf(y[0]) && y[0] > 0 && isinf(y[1]));
    /* transpose [2,3] read backwards on its first axis */
    struct psg_shape t = PSG_SHAPE(3, 2);
    be->copy(&t, sizeof *x, x + 3, (const int64_t[]){ 1, -3 }, y,
             (const int64_t[]){ 2, 1 });
    const double turned[] = { 4, 1, 5, 2, 6, 3 };
    check_row("copy", 6, y, turned, 0);
    const int64_t id[] = { 2, -1, 0, 3 };
    be->gather(2, 2, 3, 2, x, 6, id, y);
    const double rows[] = { 5, 6, 0, 0, 7, 8, 0, 0 };
    check_row("gather", 8, y, rows, 0);
    const int64_t again[] = { 1, 1 };
    psg_real table[] = { 0, 0, 1, 1, 0, 0 };
    be->scatter_add(1, 2, 3, 2, again, x, table, 0);
    const double added[] = { 0, 0, 5, 7, 0, 0 };
    check_row("scatter_add", 6, table, added, 0);
    const int64_t bag[] = { 4, 2, 4, -1, 2, 9, 9, 0, 0, 3 };
    int64_t slot[10];
    be->merge_ids(2, 5, 9, 3, bag, slot);
    const int64_t merged[] = { 0, 1, 0, -1, 1, -1, -1, 2, 2, -1 };
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(slot[i], merged[i]);
    be->convert(4, bag, y);
    const double real[] = { 4, 2, 4, -1 };
    check_row("convert", 4, y, real, 0);
}
END_TEST

START_TEST(clipped_sum_skips_records_of_weight_zero)
{
    const psg_real g[] = { 3, 4, NAN, INFINITY, 1, 2 }, c[] = { 2, 0, -1 };
    psg_real sum[] = { 1, 1 };
    double sq[] = { 0, 0, 100 };
    psg_backend_ref()->add_weighted(3, 2, c, g, 2, sum);
    const double want[] = { 1 + 6 - 1, 1 + 8 - 2 };
    check_row("sum", 2, sum, want, 0);
    psg_backend_ref()->add_sqnorm(3, 2, g, 2, sq);
    ck_assert_double_eq(sq[0], 25);
    ck_assert(isnan(sq[1]));
    ck_assert_double_eq(sq[2], 105);
}
END_TEST

START_TEST(window_errors_name_the_place)
{
    struct psg_error err;
    struct psg_window w = {
        2, { 8, 3 }, { 3, 4 }, { 0 }, { 1, 1 }, { 1, 1 }, { 0 }, { 0 }
    };
    ck_assert_int_eq(psg_window_infer(&w, "net.conv1", &err), PSG_E_SHAPE);
    ck_assert_str_eq(err.place, "net.conv1");
    ck_assert_ptr_nonnull(strstr(err.text, "axis 1"));
    w.pad_hi[1] = 1;
    ck_assert_int_eq(psg_window_infer(&w, "net.conv1", &err), 0);
    ck_assert_int_eq(w.out[0], 6);
    ck_assert_int_eq(w.out[1], 1);
    struct psg_window bad = w;
    bad.stride[0] = 0;
    ck_assert_int_eq(psg_window_infer(&bad, "", &err), PSG_E_SHAPE);
    bad = w;
    bad.pad_lo[0] = -1;
    ck_assert_int_eq(psg_window_infer(&bad, "", &err), PSG_E_SHAPE);
    bad = w;
    bad.kernel[0] = INT64_MAX;
    ck_assert_int_eq(psg_window_infer(&bad, "", &err), PSG_E_SHAPE);
    bad = w;
    bad.dilation[0] = bad.kernel[0] = INT64_C(1) << 40;
    ck_assert_int_eq(psg_window_infer(&bad, "", &err), PSG_E_SHAPE);
    bad.rank = 4;
    ck_assert_int_eq(psg_window_infer(&bad, "", NULL), PSG_E_SHAPE);
}
END_TEST

START_TEST(backends_are_found_by_name)
{
    ck_assert_ptr_eq(psg_backend_find("ref"), psg_backend_ref());
    ck_assert_ptr_eq(psg_backend_find("cpu"), psg_backend_cpu());
    ck_assert_ptr_null(psg_backend_find("tpu"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ref");
    TCase *tc = tcase_create("ref");
    tcase_add_test(tc, gemm_by_hand);
    tcase_add_test(tc, activations_have_pytorch_values);
    tcase_add_test(tc, conv_adjoints);
    tcase_add_test(tc, conv_by_hand);
    tcase_add_test(tc, fold_is_adjoint_of_unfold);
    tcase_add_test(tc, pools_by_hand);
    tcase_add_test(tc, rows_by_hand);
    tcase_add_test(tc, row_derivatives);
    tcase_add_test(tc, reduce_copy_and_tables);
    tcase_add_test(tc, clipped_sum_skips_records_of_weight_zero);
    tcase_add_test(tc, window_errors_name_the_place);
    tcase_add_test(tc, backends_are_found_by_name);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
