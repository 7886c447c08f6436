/* Accountants against tables from other libraries: oracle_accounting [DIR] [--prv-every N].
 *
 * DIR (or $DPSGD_SHARED/oracle/accounting) holds CSV files; its README says what the
 * columns are and which agreement to expect. One TAP line per table and quantity. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "psg/accountant.h"

enum { LINE = 4096, COLUMNS = 32, SEGMENTS = 64 };

struct table {
    FILE *file;
    char path[512];
    char head[LINE], line[LINE];
    char *name[COLUMNS], *cell[COLUMNS];
    int n_columns, row;
};

struct check {
    const char *what;
    int rows, bad;
    double worst; /* largest error over its tolerance */
    char where[200];
};

static int n_lines, n_failed;
static int prv_every = 1; /* the PRV columns of every how-many-th row */

static void tap_line(const struct check *c)
{
    bool ok = c->bad == 0 && c->rows > 0;
    n_lines++;
    n_failed += !ok;
    printf("%s %d - %s: %d rows, %d bad, worst error %.3g of what is allowed%s%s\n",
           ok ? "ok" : "not ok", n_lines, c->what, c->rows, c->bad, c->worst,
           c->bad ? ", first bad: " : "", c->where);
    fflush(stdout);
}

/* `error` over `allowed` decides; the text says which row it was. */
static void check_add(struct check *c, double error, double allowed, const char *fmt, ...)
{
    double part = error / allowed;
    c->rows++;
    if (!(part <= c->worst))
        c->worst = part;
    if (part <= 1)
        return;
    if (c->bad++ == 0) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(c->where, sizeof c->where, fmt, args);
        va_end(args);
    }
}

static int split(char *line, char **cell)
{
    int n = 0;
    line[strcspn(line, "\r\n")] = '\0';
    for (char *rest = line; rest && n < COLUMNS;)
        cell[n++] = strsep(&rest, ",");
    return n;
}

static bool table_open(struct table *t, const char *dir, const char *name)
{
    memset(t, 0, sizeof *t);
    snprintf(t->path, sizeof t->path, "%s/%s", dir, name);
    t->file = fopen(t->path, "r");
    if (!t->file)
        return false;
    if (fgets(t->head, sizeof t->head, t->file))
        t->n_columns = split(t->head, t->name);
    return true;
}

static bool table_next(struct table *t)
{
    if (!fgets(t->line, sizeof t->line, t->file)) {
        fclose(t->file);
        return false;
    }
    t->row++;
    return split(t->line, t->cell) == t->n_columns;
}

static const char *text(const struct table *t, const char *name)
{
    for (int i = 0; i < t->n_columns; i++)
        if (strcmp(t->name[i], name) == 0)
            return t->cell[i];
    printf("Bail out! %s has no column %s\n", t->path, name);
    exit(EXIT_FAILURE);
}

/* NaN for an empty cell. */
static double number(const struct table *t, const char *name)
{
    const char *cell = text(t, name);
    return *cell ? strtod(cell, NULL) : NAN;
}

static double epsilon_of(enum psg_accountant_kind kind, const struct psg_dp_event *event,
                         size_t n, double delta)
{
    struct psg_dp_epsilon out;
    struct psg_error err;
    if (psg_dp_epsilon(kind, event, n, delta, &out, &err)) {
        printf("# %s: %s\n", err.place, err.text);
        return NAN;
    }
    return out.epsilon;
}

static void rdp_orders(const char *dir)
{
    struct table t;
    struct check exact = { "rdp_orders.csv: one step's RDP" };
    if (!table_open(&t, dir, "rdp_orders.csv"))
        return tap_line(&exact);
    while (table_next(&t)) {
        double got, want = number(&t, "rdp_exact");
        double q = number(&t, "q"), s = number(&t, "sigma"), a = number(&t, "order");
        if (psg_rdp_step(q, s, a, &got, NULL))
            got = NAN;
        check_add(&exact, fabs(got - want), fmax(1e-6 * want, 2e-12),
                  "q %g s %g order %g: %.12g, want %.12g", q, s, a, got, want);
    }
    tap_line(&exact);
}

static void compare(struct check *c, const struct table *t, const char *column, double got,
                    double relative)
{
    double want = number(t, column);
    if (isnan(want))
        return;
    if (isinf(want) || isinf(got))
        check_add(c, got == want ? 0 : INFINITY, 1, "row %d: %g, want %g", t->row, got,
                  want);
    else
        check_add(c, fabs(got - want), relative * fabs(want) + 1e-12,
                  "row %d: %.12g, want %.12g", t->row, got, want);
}

/* Our bounds against the table's best value and its error: they must enclose it, the upper
 * one within 1e-2 (more only where it is a small part of epsilon), the estimate within
 * 1e-3. */
struct prv_checks {
    struct check above, below, tight, estimate;
};

#define PRV_CHECKS(file)                                                                   \
    {                                                                                      \
        { file ": PRV upper bound is above" }, { file ": PRV lower bound is below" },      \
            { file ": PRV upper bound is within 1e-2" },                                   \
            { file ": PRV estimate is within 1e-3" },                                      \
    }

static void prv_compare(struct prv_checks *c, const struct table *t,
                        const struct psg_dp_event *event, size_t n, double delta,
                        double ref, double error)
{
    struct psg_dp_epsilon at;
    if (t->row % prv_every)
        return;
    if (psg_dp_epsilon(PSG_ACCOUNTANT_PRV, event, n, delta, &at, NULL))
        at.epsilon = at.lower = at.estimate = NAN;
    double room = error + 1e-9 * ref;
    check_add(&c->above, ref - at.epsilon, room, "row %d: %.9g, reference %.9g", t->row,
              at.epsilon, ref);
    check_add(&c->below, at.lower - ref, room, "row %d: %.9g, reference %.9g", t->row,
              at.lower, ref);
    check_add(&c->tight, at.epsilon - ref, 1e-2 + error, "row %d: %.9g, reference %.9g",
              t->row, at.epsilon, ref);
    check_add(&c->estimate, fabs(at.estimate - ref), 1e-3 * ref + error,
              "row %d: %.9g, reference %.9g", t->row, at.estimate, ref);
}

static void prv_print(const struct prv_checks *c)
{
    tap_line(&c->above);
    tap_line(&c->below);
    tap_line(&c->tight);
    tap_line(&c->estimate);
}

static void epsilons(const char *dir)
{
    struct table t;
    struct check rdp = { "epsilon.csv: RDP epsilon" };
    struct check mu = { "epsilon.csv: GDP mu, Poisson" };
    struct check mu_u = { "epsilon.csv: GDP mu, uniform" };
    struct check gdp = { "epsilon.csv: GDP epsilon" };
    struct check exact = { "epsilon.csv: Gaussian closed form at q = 1" };
    struct prv_checks prv = PRV_CHECKS("epsilon.csv");
    if (!table_open(&t, dir, "epsilon.csv"))
        return tap_line(&rdp);
    while (table_next(&t)) {
        struct psg_dp_event e = { number(&t, "q"), number(&t, "sigma"),
                                  (int64_t)number(&t, "steps") };
        double delta = number(&t, "delta"), got;
        compare(&rdp, &t, "eps_rdp_opacus", epsilon_of(PSG_ACCOUNTANT_RDP, &e, 1, delta),
                1e-6);
        psg_gdp_mu(&e, 1, &got, NULL);
        compare(&mu, &t, "mu_gdp_poisson", got, 1e-8);
        psg_gdp_mu_uniform(&e, 1, &got, NULL);
        compare(&mu_u, &t, "mu_gdp_uniform", got, 1e-8);
        compare(&gdp, &t, "eps_gdp_poisson", epsilon_of(PSG_ACCOUNTANT_GDP, &e, 1, delta),
                1e-6);
        double ref = number(&t, "eps_ref");
        prv_compare(&prv, &t, &e, 1, delta, ref, number(&t, "eps_ref_error"));
        if (strcmp(text(&t, "ref_kind"), "exact") == 0) {
            got = psg_gdp_epsilon(sqrt((double)e.steps) / e.noise_multiplier, delta);
            check_add(&exact, fabs(got - ref), number(&t, "eps_ref_error") + 1e-8 * ref,
                      "row %d: %.9g, want %.9g", t.row, got, ref);
        }
    }
    tap_line(&rdp);
    tap_line(&mu);
    tap_line(&mu_u);
    tap_line(&gdp);
    tap_line(&exact);
    prv_print(&prv);
}

static size_t segments(const char *cell, struct psg_dp_event *event)
{
    size_t n = 0;
    for (const char *p = cell; *p && n < SEGMENTS; n++) {
        char *end;
        event[n].sample_rate = strtod(p, &end);
        event[n].noise_multiplier = strtod(end + 1, &end);
        event[n].steps = strtoll(end + 1, &end, 10);
        p = *end ? end + 1 : end;
    }
    return n;
}

static void heterogeneous(const char *dir)
{
    struct table t;
    struct check rdp = { "heterogeneous.csv: RDP epsilon" };
    struct check gdp = { "heterogeneous.csv: GDP epsilon" };
    struct check mu = { "heterogeneous.csv: GDP mu" };
    struct prv_checks prv = PRV_CHECKS("heterogeneous.csv");
    if (!table_open(&t, dir, "heterogeneous.csv"))
        return tap_line(&rdp);
    while (table_next(&t)) {
        struct psg_dp_event event[SEGMENTS];
        size_t n = segments(text(&t, "segments"), event);
        double delta = number(&t, "delta"), got;
        compare(&rdp, &t, "eps_rdp_opacus", epsilon_of(PSG_ACCOUNTANT_RDP, event, n, delta),
                1e-6);
        compare(&gdp, &t, "eps_gdp_poisson",
                epsilon_of(PSG_ACCOUNTANT_GDP, event, n, delta), 1e-6);
        psg_gdp_mu(event, n, &got, NULL);
        compare(&mu, &t, "mu_gdp_poisson", got, 1e-8);
        /* the PLD column is an upper bound at interval 1e-4, the PRV column an estimate */
        double pld = number(&t, "eps_pld_upper"), estimate = number(&t, "eps_prv_estimate");
        if (!isnan(pld) && !isnan(estimate))
            prv_compare(&prv, &t, event, n, delta, pld, fabs(pld - estimate) + 1e-4 * pld);
    }
    tap_line(&rdp);
    tap_line(&gdp);
    tap_line(&mu);
    prv_print(&prv);
}

static void calibration(const char *dir)
{
    struct table t;
    struct check rdp = { "calibration.csv: RDP noise multiplier" };
    struct check over = { "calibration.csv: RDP never exceeds the target" };
    struct check prv = { "calibration.csv: PRV noise multiplier within 1e-3" };
    if (!table_open(&t, dir, "calibration.csv"))
        return tap_line(&rdp);
    while (table_next(&t)) {
        struct psg_dp_target target = { .kind = PSG_ACCOUNTANT_RDP,
                                        .epsilon = number(&t, "target_eps"),
                                        .delta = number(&t, "delta") };
        double q = number(&t, "q"), sigma = NAN, want = number(&t, "sigma_rdp_opacus");
        struct psg_dp_epsilon at;
        int r = psg_dp_noise_multiplier(&target, q, (int64_t)number(&t, "steps"), &sigma,
                                        &at, NULL);
        double tight = NAN, pld = number(&t, "sigma_pld");
        target.kind = PSG_ACCOUNTANT_PRV;
        if (psg_dp_noise_multiplier(&target, q, (int64_t)number(&t, "steps"), &tight, NULL,
                                    NULL))
            tight = NAN;
        check_add(&prv, fabs(tight - pld), 1e-3 * pld, "row %d: %.9g, want %.9g", t.row,
                  tight, pld);
        if (isnan(want)) {
            check_add(&rdp, r == PSG_E_RANGE ? 0 : 2, 1, "row %d: out of reach, got %g",
                      t.row, sigma);
            continue;
        }
        compare(&rdp, &t, "sigma_rdp_opacus", r ? NAN : sigma, 1e-6);
        check_add(&over, r ? NAN : at.epsilon, target.epsilon, "row %d: %.12g > %g", t.row,
                  at.epsilon, target.epsilon);
    }
    tap_line(&rdp);
    tap_line(&over);
    tap_line(&prv);
}

/* Our delta at eps must invert our epsilon at delta, and bound the exact one. */
static void deltas(const char *dir)
{
    struct table t;
    struct check exact = { "delta.csv: Gaussian closed form at q = 1" };
    struct check bound = { "delta.csv: RDP delta is an upper bound" };
    struct check gdp = { "delta.csv: GDP delta" };
    struct check prv = {
        "delta.csv: PRV delta, between nothing above and PLD's upper bound"
    };
    if (!table_open(&t, dir, "delta.csv"))
        return tap_line(&exact);
    while (table_next(&t)) {
        struct psg_dp_event e = { number(&t, "q"), number(&t, "sigma"),
                                  (int64_t)number(&t, "steps") };
        double eps = number(&t, "eps"), want = number(&t, "delta_exact");
        double pld = number(&t, "delta_pld_upper");
        if (!isnan(want)) {
            double got = psg_gdp_delta(sqrt((double)e.steps) / e.noise_multiplier, eps);
            check_add(&exact, fabs(got - want), 1e-7 * want, "row %d: %.9g, want %.9g",
                      t.row, got, want);
        }
        struct psg_dp_epsilon out;
        /* the table's own upper bound is loose by its discretisation; a tenth is far past
         * it */
        if (!isnan(pld) && !psg_dp_delta(PSG_ACCOUNTANT_RDP, &e, 1, eps, &out, NULL))
            check_add(&bound, pld * 0.9, out.delta, "row %d: %.9g below %.9g", t.row,
                      out.delta, pld);
        if (!isnan(pld) && !psg_dp_delta(PSG_ACCOUNTANT_PRV, &e, 1, eps, &out, NULL)) {
            /* the table's bound is loose by its interval; ours must not lie far above it,
             * and its lower end above it by no more than the rounding of either */
            check_add(&prv, out.delta - pld, 2e-3 * pld + 1e-13, "row %d: %.9g above %.9g",
                      t.row, out.delta, pld);
            check_add(&prv, out.lower - pld, 1e-6 * pld + 1e-15,
                      "row %d: lower %.9g above %.9g", t.row, out.lower, pld);
        }
        if (!isnan(number(&t, "delta_gdp_poisson")) &&
            !psg_dp_delta(PSG_ACCOUNTANT_GDP, &e, 1, eps, &out, NULL))
            compare(&gdp, &t, "delta_gdp_poisson", out.delta, 1e-5);
    }
    tap_line(&exact);
    tap_line(&bound);
    tap_line(&gdp);
    tap_line(&prv);
}

int main(int argc, char **argv)
{
    char dir[480];
    const char *shared = getenv("DPSGD_SHARED"), *given = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--prv-every") == 0 && i + 1 < argc)
            prv_every = atoi(argv[++i]);
        else
            given = argv[i];
    }
    if (prv_every < 1) {
        fprintf(stderr, "usage: oracle_accounting [DIR] [--prv-every N]\n");
        return EXIT_FAILURE;
    }
    if (given)
        snprintf(dir, sizeof dir, "%s", given);
    else
        snprintf(dir, sizeof dir, "%s/oracle/accounting", shared ? shared : "../shared");
    char probe[512];
    snprintf(probe, sizeof probe, "%s/epsilon.csv", dir);
    FILE *f = fopen(probe, "r");
    if (!f) {
        printf("1..0 # SKIP no reference tables in %s\n", dir);
        return given ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    fclose(f);
    rdp_orders(dir);
    epsilons(dir);
    heterogeneous(dir);
    calibration(dir);
    deltas(dir);
    printf("1..%d\n# %d passed, %d failed\n", n_lines, n_lines - n_failed, n_failed);
    return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
