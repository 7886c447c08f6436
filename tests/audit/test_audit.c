/* The audit: its estimator, clean runs at several budgets, and a planted bug at a time. With
 * AUDIT_RUNS=N a clean budget is audited over N runs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "attrs_text.h"
#include "games.h"
#include "planted.h"
#include "psg/accountant.h"
#include "psg/dp.h"
#include "suite.h"

static const double deltas[] = { 1e-5, 0.01, 0.1, 0.3 };
enum { N_DELTAS = sizeof deltas / sizeof deltas[0] };

/* True when some score refutes some claim, at 95% over all of them together. */
static bool rejected(const struct setup *setup, const struct games *g, char *text,
                     size_t size)
{
    bool any = false;
    double confidence = 1 - 0.05 / (N_SCORES * N_DELTAS), best = -INFINITY;
    for (int d = 0; d < N_DELTAS; d++) {
        double claim = games_claim(setup, deltas[d]);
        for (int k = 0; k < N_SCORES; k++) {
            struct psg_audit_bound b;
            ck_assert_int_eq(psg_audit_bound(g->in[k], g->n, g->out[k], g->n, deltas[d],
                                             confidence, &b, NULL),
                             0);
            any |= b.epsilon > claim;
            if (b.epsilon - claim > best) {
                best = b.epsilon - claim;
                snprintf(text, size, "score %d, delta %g: at least %.3f, claimed %.3f", k,
                         deltas[d], b.epsilon, claim);
            }
        }
    }
    return any;
}

/* ---- the estimator ---- */

START_TEST(binomial_bounds_are_clopper_and_pearsons)
{
    ck_assert(psg_binomial_lower(0, 100, 0.95) == 0);
    ck_assert(psg_binomial_upper(100, 100, 0.95) == 1);
    ck_assert_double_eq_tol(psg_binomial_upper(0, 100, 0.95), 1 - pow(0.05, 0.01), 1e-12);
    ck_assert_double_eq_tol(psg_binomial_lower(100, 100, 0.95), pow(0.05, 0.01), 1e-12);
    /* the defining equations, summed term by term */
    double low = psg_binomial_lower(10, 100, 0.975),
           high = psg_binomial_upper(10, 100, 0.975);
    double at_least = 0, at_most = 0;
    for (int k = 0; k <= 100; k++) {
        double choose = lgamma(101) - lgamma(k + 1) - lgamma(101 - k);
        at_least += k >= 10 ? exp(choose + k * log(low) + (100 - k) * log1p(-low)) : 0;
        at_most += k <= 10 ? exp(choose + k * log(high) + (100 - k) * log1p(-high)) : 0;
    }
    ck_assert_double_eq_tol(at_least, 0.025, 1e-10);
    ck_assert_double_eq_tol(at_most, 0.025, 1e-10);
    ck_assert(psg_binomial_lower(500000, 1000000, 0.95) > 0.499);
}
END_TEST

/* Scores of the plain Gaussian mechanism with mu = 0.7: bounds stay below the truth, and near
 * where counts can tell: at delta 0.1, not far out in the tail. */
START_TEST(bounds_of_a_gaussian_are_below_the_truth_and_near)
{
    enum { N = 20000 };
    struct psg_key key;
    float *z = calloc(2 * N, sizeof *z);
    double *in = calloc(N, sizeof *in), *out = calloc(N, sizeof *out);
    struct psg_audit_bound b;
    psg_key_from_seed(3, &key);
    ck_assert_int_eq(psg_normal_fill(&key, PSG_RNG_NOISE, 0, 0, 0, 2 * N, z, NULL), 0);
    for (int i = 0; i < N; i++) {
        in[i] = 0.7 + (double)z[i];
        out[i] = (double)z[N + i];
    }
    ck_assert_int_eq(psg_audit_bound(in, N, out, N, 0.1, 0.95, &b, NULL), 0);
    struct psg_dp_event event = { 1, 1 / 0.7, 1 };
    struct psg_dp_epsilon truth;
    ck_assert_int_eq(psg_dp_epsilon(PSG_ACCOUNTANT_PRV, &event, 1, 0.1, &truth, NULL), 0);
    ck_assert_double_lt(b.epsilon, truth.epsilon);
    ck_assert_double_gt(b.epsilon, truth.epsilon * 0.5);
    ck_assert_int_eq(psg_audit_bound(in, N, out, N, 1e-5, 0.95, &b, NULL), 0);
    ck_assert_double_gt(b.epsilon, 0.5);
    ck_assert_double_lt(b.epsilon, psg_gdp_epsilon(0.7, 1e-5));
    ck_assert_int_eq(psg_audit_bound(out, N / 2, out + N / 2, N / 2, 1e-5, 0.95, &b, NULL),
                     0);
    ck_assert_double_lt(b.epsilon, 0.1);
    ck_assert_int_eq(psg_audit_bound(in, 7, out, N, 1e-5, 0.95, &b, NULL), PSG_E_RANGE);
    ck_assert_int_eq(psg_audit_bound(in, N, out, N, 1, 0.95, &b, NULL), PSG_E_RANGE);
    free(z);
    free(in);
    free(out);
}
END_TEST

START_TEST(step_scores_are_privacy_losses)
{
    ck_assert_double_eq_tol(psg_audit_step_score(1, 2, 0.7), 0.4 / 8, 1e-14);
    ck_assert_double_eq_tol(psg_audit_step_score(0.3, 0.5, 1.2), log(0.7 + 0.3 * exp(2.8)),
                            1e-13);
    ck_assert_double_eq_tol(psg_audit_step_score(0.3, 0.5, -4), log(0.7 + 0.3 * exp(-18.0)),
                            1e-13);
    ck_assert(isfinite(psg_audit_step_score(0.01, 0.01, 1e6)));
    ck_assert(psg_audit_step_score(0, 1, 5) == 0);
}
END_TEST

/* Many audits of a mechanism that is what it claims to be: few are wrong, most are near. */
START_TEST(bounds_of_noise_hold_as_often_as_they_say)
{
    enum { TRIALS = 200, N = 400 };
    struct psg_key key;
    float z[2 * N];
    double in[N], out[N];
    struct psg_dp_event claim = { 1, 1.25, 1 };
    int wrong = 0, near = 0;
    psg_key_from_seed(4, &key);
    for (int t = 0; t < TRIALS; t++) {
        struct psg_audit_noise a;
        ck_assert_int_eq(
            psg_normal_fill(&key, PSG_RNG_NOISE, (uint64_t)t, 0, 0, 2 * N, z, NULL), 0);
        for (int i = 0; i < N; i++) {
            in[i] = 0.8 + (double)z[i];
            out[i] = (double)z[N + i];
        }
        ck_assert_int_eq(psg_audit_noise(in, N, out, N, &claim, 1e-5, 0.95, &a, NULL), 0);
        wrong += a.noise_multiplier < 1.25;
        near += a.bound.epsilon > psg_gdp_epsilon(0.8, 1e-5) / 2;
    }
    ck_assert_int_le(wrong, TRIALS / 20);
    ck_assert_int_ge(near, TRIALS / 2);
    struct psg_audit_noise none;
    ck_assert_int_eq(psg_audit_noise(out, N, out, N, &claim, 1e-5, 0.95, &none, NULL), 0);
    ck_assert_double_lt(none.bound.epsilon, 0.2);
    claim.sample_rate = 0;
    ck_assert_int_eq(psg_audit_noise(in, N, out, N, &claim, 1e-5, 0.95, &none, NULL),
                     PSG_E_RANGE);
}
END_TEST

/* ---- clean runs ---- */

static const struct setup budgets[] = {
    { .q = 0.5, .s = 4, .steps = 12, .n = 8000, .seed = 1 },
    { .q = 0.5, .s = 1.5, .steps = 6, .n = 8000, .seed = 2 },
    { .q = 0.5, .s = 6, .steps = 12, .n = 12000, .seed = 3, .secure = true },
    { .q = 1, .s = 2, .steps = 4, .n = 8000, .seed = 4 },
    { .q = 0.1, .s = 1, .steps = 16, .n = 8000, .seed = 5 },
};
enum { N_BUDGETS = sizeof budgets / sizeof budgets[0] };

/* Both bounds keep below what is claimed. At least half of it is seen: in a few games when the
 * mechanism is known to be a sampled Gaussian, in very many when nothing is known of it. */
START_TEST(clean_runs_keep_what_is_claimed_and_show_half_of_it)
{
    struct setup s = budgets[_i];
    struct games g;
    struct psg_audit_bound b;
    struct psg_audit_noise a;
    char text[128];
    const char *runs = getenv("AUDIT_RUNS");
    s.runs = runs ? atoi(runs) : 1;
    planted_set(PLANTED_NOTHING, 1);
    games_play(&s, &g);
    ck_assert_msg(!rejected(&s, &g, text, sizeof text), "%s", text);
    double claim = games_claim(&s, 1e-5), *in = g.in[SCORE_LOSS], *out = g.out[SCORE_LOSS];
    struct psg_dp_event event = { s.q, s.s, s.steps };
    ck_assert_int_eq(psg_audit_bound(in, g.n, out, g.n, 1e-5, 0.95, &b, NULL), 0);
    ck_assert_int_eq(psg_audit_noise(in, g.n, out, g.n, &event, 1e-5, 0.95, &a, NULL), 0);
    printf(
        "# q %g s %g steps %d: epsilon %.3f claimed, at least %.3f (%.0f%%), as a sampled "
        "Gaussian at least %.3f (%.0f%%)\n",
        s.q, s.s, s.steps, claim, b.epsilon, 100 * b.epsilon / claim, a.bound.epsilon,
        100 * a.bound.epsilon / claim);
    ck_assert_double_lt(b.epsilon, claim);
    ck_assert_double_gt(b.epsilon, runs ? claim / 2 : 0);
    ck_assert_double_lt(a.bound.epsilon, claim);
    ck_assert_double_gt(a.bound.epsilon, claim / 2);
    games_free(&g);
}
END_TEST

/* ---- planted bugs ---- */

#define MANY .q = 0.5, .s = 1, .steps = 4, .n = 4000
#define ONE  .q = 1, .s = 1, .steps = 1, .n = 4000, .sequential = true

static const struct {
    enum planted bug;
    struct setup setup;
} bugs[] = {
    { NOISE_BY_SQRT_BATCH, { MANY, .seed = 11 } },
    { NOISE_PER_REPLICA, { MANY, .seed = 12 } },
    { NOISE_PER_MICROBATCH, { MANY, .seed = 13 } },
    { NOISE_LEFT_OUT, { MANY, .seed = 14 } },
    { NOISE_REUSED, { MANY, .seed = 15 } },
    { NOISE_NOT_ON_EMPTY,
      { .q = 0.5, .s = 2, .steps = 4, .n = 1000, .sequential = true, .seed = 16 } },
    { CLIP_SKIPPED, { MANY, .seed = 17 } },
    { CLIP_INVERTED, { MANY, .seed = 18 } },
    { CLIP_PER_BATCH, { MANY, .seed = 19 } },
    { RATE_DOUBLED, { .q = 0.25, .s = 1, .steps = 4, .n = 4000, .seed = 20 } },
    { ADAPTIVE_UNPAID, { ONE, .clipping = PSG_CLIP_ADAPTIVE, .seed = 21 } },
    { TELEMETRY_UNPAID, { ONE, .telemetry_share = 0.5, .seed = 22 } },
    { SCHEDULE_HALF_DONE, { MANY, .clip_growth = 2, .seed = 23 } },
    { SECURE_HALVED, { MANY, .secure = true, .seed = 24 } },
    { SECURE_REUSED, { MANY, .secure = true, .seed = 25 } },
    { RECORDS_FOR_USERS, { MANY, .records_per_user = 8, .seed = 26 } },
};
enum { N_BUGS = sizeof bugs / sizeof bugs[0] };

static const char *const bug_name[N_PLANTED] = {
    [NOISE_BY_SQRT_BATCH] = "noise divided by sqrt(B)",
    [NOISE_PER_REPLICA] = "noise per replica",
    [NOISE_PER_MICROBATCH] = "noise per microbatch halved",
    [NOISE_LEFT_OUT] = "no noise",
    [NOISE_REUSED] = "noise reused between steps",
    [NOISE_NOT_ON_EMPTY] = "no noise on empty batches",
    [CLIP_SKIPPED] = "clipping skipped",
    [CLIP_INVERTED] = "clip factor inverted",
    [CLIP_PER_BATCH] = "clipping per batch",
    [RATE_DOUBLED] = "sample rate misreported",
    [ADAPTIVE_UNPAID] = "adaptive noise not accounted",
    [TELEMETRY_UNPAID] = "telemetry not accounted",
    [SCHEDULE_HALF_DONE] = "clip schedule without noise",
    [SECURE_HALVED] = "discrete noise halved",
    [SECURE_REUSED] = "discrete noise reused",
    [RECORDS_FOR_USERS] = "records clipped where users are stated",
};

/* The same setup, clean and with the bug: it is the bug that is rejected. */
START_TEST(every_planted_bug_is_rejected)
{
    const struct setup *s = &bugs[_i].setup;
    char clean[128], planted[128];
    struct games g;
    double batch = s->sequential ? 1 : s->q * s->n;
    planted_set(PLANTED_NOTHING, batch);
    games_play(s, &g);
    ck_assert_msg(!rejected(s, &g, clean, sizeof clean), "clean: %s", clean);
    games_free(&g);
    planted_set(bugs[_i].bug, batch);
    games_play(s, &g);
    bool caught = rejected(s, &g, planted, sizeof planted);
    planted_set(PLANTED_NOTHING, batch);
    printf("# %s: %s (clean: %s)\n", bug_name[bugs[_i].bug], planted, clean);
    ck_assert_msg(caught, "%s: %s", bug_name[bugs[_i].bug], planted);
    games_free(&g);
}
END_TEST

/* ---- a job's shadow ---- */

static const double two_bounds[] = { 0.6, 0.8 };

static const struct shadow_case {
    enum psg_clipping clipping;
    double s, q, telemetry_share;
    int64_t units;
    bool poisson, secure;
} shadows[] = {
    { .s = 1, .q = 0.5, .poisson = true },
    { .s = 1, .q = 0.5, .poisson = true, .secure = true, .telemetry_share = 0.02 },
    { PSG_CLIP_PER_LAYER, .s = 1.5, .q = 0.5, .poisson = true, .units = 1 },
    { PSG_CLIP_ADAPTIVE, .s = 1, .q = 0.5, .poisson = true },
    { PSG_CLIP_AUTO_S, .s = 2, .q = 0.01 },
};
enum { N_SHADOWS = sizeof shadows / sizeof shadows[0] };

static void cast_shadow(const struct shadow_case *c, struct psg_audit_report *report)
{
    struct psg_shape shape = { .rank = 1, .dim = { 2 } };
    struct psg_audit_options options = { 4000, 5, 1e-5, 0.999, 1 };
    struct psg_program *program = psg_program_new();
    struct psg_error err = { 0 };
    struct psg_key key;
    psg_value v;
    psg_key_from_seed(40, &key);
    struct psg_train_options job = {
        .is_private = true, .clipping = c->clipping, .poisson = c->poisson,
        .max_grad_norm = { .initial = 0.7 }, .noise_multiplier = { .initial = c->s },
        .group_norm = two_bounds, .n_group_norm = 1, .telemetry_share = c->telemetry_share,
        .adaptive = { .bound = 0.7, .quantile = 0.5, .learning_rate = 0.2, .count_stddev = 5,
                      .expected_batch_size = 50, .min_bound = 1e-3, .max_bound = 1e3 },
        .auto_gamma = 0.01, .loss_bound = 1, .sample_rate = c->q, .expected_batch_size = 50,
        .secure_noise = c->secure, .units = { .n = c->units },
        .optimizer = psg_optimizer_defaults(PSG_ADAM), .lr = { .initial = 0.1 },
    };
    struct psg_attrs *a = attrs_from_text("in_features=2 out_features=1");
    ck_assert_int_eq(psg_program_input(program, "x", PSG_REAL, &shape, &v, NULL), 0);
    ck_assert_int_eq(psg_program_add(program, "linear", "0", &v, 1, a, NULL, 0, &v, NULL, NULL), 0);
    planted_set(planted_now(), c->q * 2000);
    ck_assert_msg(psg_audit_shadow(program, &job, &options, &key, report, &err) == 0, "%s: %s",
                  err.place, err.text);
    psg_attrs_free(a);
    psg_program_free(program);
}

START_TEST(shadows_of_clean_jobs_hold_and_show_half)
{
    struct psg_audit_report r;
    planted_set(PLANTED_NOTHING, 1);
    cast_shadow(&shadows[_i], &r);
    printf("# shadow %d: claimed %.3f, at least %.3f, as a sampled Gaussian %.3f\n", _i, r.claim,
           r.bound.epsilon, r.noise.bound.epsilon);
    ck_assert(!r.refuted);
    ck_assert_double_gt(r.noise.bound.epsilon, r.claim / 2);
}
END_TEST

START_TEST(shadows_of_broken_jobs_are_refuted)
{
    /* what only a count of canaries shows is at most log(1000 / 8): not above the claim of s = 1 */
    static const struct {
        enum planted bug;
        double s;
    } broken[] = { { NOISE_BY_SQRT_BATCH, 1 }, { NOISE_PER_REPLICA, 1 }, { NOISE_LEFT_OUT, 1 },
                   { NOISE_REUSED, 2 },        { CLIP_SKIPPED, 1 },      { CLIP_INVERTED, 1 } };
    struct psg_audit_report r;
    struct shadow_case job = { .s = broken[_i].s, .q = 0.5, .poisson = true };
    planted_set(broken[_i].bug, 1);
    cast_shadow(&job, &r);
    planted_set(PLANTED_NOTHING, 1);
    ck_assert_msg(r.refuted, "%s: claimed %g, at least %g and %g", bug_name[broken[_i].bug], r.claim,
                  r.bound.epsilon, r.noise.bound.epsilon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("audit");
    TCase *tc = tcase_create("audit");
    tcase_add_test(tc, binomial_bounds_are_clopper_and_pearsons);
    tcase_add_test(tc, bounds_of_a_gaussian_are_below_the_truth_and_near);
    tcase_add_test(tc, step_scores_are_privacy_losses);
    tcase_add_test(tc, bounds_of_noise_hold_as_often_as_they_say);
    tcase_add_loop_test(tc, clean_runs_keep_what_is_claimed_and_show_half_of_it, 0,
                        N_BUDGETS);
    tcase_add_loop_test(tc, every_planted_bug_is_rejected, 0, N_BUGS);
    tcase_add_loop_test(tc, shadows_of_clean_jobs_hold_and_show_half, 0, N_SHADOWS);
    tcase_add_loop_test(tc, shadows_of_broken_jobs_are_refuted, 0, 6);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
