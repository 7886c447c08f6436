/* dpsgctl privacy curve: epsilon against steps or against delta, drawn, or as JSON or CSV. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli.h"
#include "proto/text.h"
#include "question.h"

enum { POINTS_MAX = 1000, WIDTH = 64, HEIGHT = 16, MARGIN = 10 };

struct curve {
    bool by_delta;
    size_t n;
    double x[POINTS_MAX], epsilon[POINTS_MAX];
};

/* Composes the events one after the other, up to `steps` steps in all. */
static int compose_up_to(struct psg_accountant *acc, const struct question *q, int64_t steps,
                         struct psg_dp_event *left, size_t *at, int64_t *done,
                         struct psg_error *err)
{
    int r = 0;
    while (*done < steps && r == 0) {
        if (left->steps == 0) {
            *left = q->event[++*at];
            continue;
        }
        struct psg_dp_event part = *left;
        part.steps = left->steps < steps - *done ? left->steps : steps - *done;
        r = psg_accountant_compose(acc, &part, err);
        left->steps -= part.steps;
        *done += part.steps;
    }
    return r;
}

static int against_steps(const struct question *q, double delta, struct psg_accountant *acc,
                         struct curve *c, struct psg_error *err)
{
    int64_t total = 0, done = 0;
    for (size_t i = 0; i < q->n_event; i++)
        if (__builtin_add_overflow(total, q->event[i].steps, &total))
            return psg_fail(err, PSG_E_RANGE, "events", "more steps than can be counted");
    size_t at = 0, n = total + 1 < (int64_t)c->n ? (size_t)total + 1 : c->n;
    struct psg_dp_event left = q->event[0];
    c->n = n;
    for (size_t i = 0; i < n; i++) {
        int64_t steps = n > 1 ? (int64_t)llround((double)total * (double)i / (double)(n - 1)) : 0;
        steps = steps > total || i + 1 == n ? total : steps;
        struct psg_dp_epsilon out;
        int r = compose_up_to(acc, q, steps, &left, &at, &done, err);
        if (r == 0)
            r = psg_accountant_epsilon_bound(acc, delta, &out, err);
        if (r)
            return r;
        c->x[i] = (double)steps;
        c->epsilon[i] = out.epsilon;
    }
    return 0;
}

/* from low to high, evenly in the logarithm */
static int against_delta(const struct question *q, double low, double high,
                         struct psg_accountant *acc, struct curve *c, struct psg_error *err)
{
    int r = 0;
    for (size_t i = 0; i < q->n_event && r == 0; i++)
        r = psg_accountant_compose(acc, &q->event[i], err);
    for (size_t i = 0; i < c->n && r == 0; i++) {
        struct psg_dp_epsilon out;
        double part = c->n > 1 ? (double)i / (double)(c->n - 1) : 0;
        c->x[i] = i + 1 == c->n && i > 0 ? high : low * pow(high / low, part);
        r = psg_accountant_epsilon_bound(acc, c->x[i], &out, err);
        c->epsilon[i] = out.epsilon;
    }
    return r;
}

/* ---- output ---- */

static void put_number(double x)
{
    char buf[PROTO_REAL_MAX];
    fputs(isinf(x) ? "inf" : proto_real_text(x, buf), stdout);
}

static void print_csv(const struct curve *c)
{
    printf("%s,epsilon\n", c->by_delta ? "delta" : "steps");
    for (size_t i = 0; i < c->n; i++) {
        put_number(c->x[i]);
        putchar(',');
        put_number(c->epsilon[i]);
        putchar('\n');
    }
}

static void print_json(const struct question *q, const struct curve *c, double delta)
{
    printf("{\"accountant\": \"%s\", \"against\": \"%s\", ", psg_accountant_kind_name(q->kind),
           c->by_delta ? "delta" : "steps");
    if (!c->by_delta) {
        question_put("delta", delta);
        printf(", ");
    }
    printf("\"points\": [");
    for (size_t i = 0; i < c->n; i++) {
        printf("%s{", i ? ", " : "");
        question_put(c->by_delta ? "delta" : "steps", c->x[i]);
        printf(", ");
        question_put("epsilon", c->epsilon[i]);
        putchar('}');
    }
    printf("]}\n");
}

/* Where x lies between the ends, from 0 to 1. */
static double place_of(const struct curve *c, double x)
{
    double first = c->x[0], last = c->x[c->n - 1];
    if (!(last > first))
        return 0;
    return c->by_delta ? log(x / first) / log(last / first) : (x - first) / (last - first);
}

/* The finite epsilons as a staircase of characters; from 0 to the largest of them. */
static void print_plot(const struct question *q, const struct curve *c, double delta)
{
    char cell[HEIGHT][WIDTH + 1];
    double most = 0;
    size_t n_inf = 0;
    for (size_t i = 0; i < c->n; i++) {
        most = isfinite(c->epsilon[i]) ? fmax(most, c->epsilon[i]) : most;
        n_inf += isinf(c->epsilon[i]);
    }
    for (int y = 0; y < HEIGHT; y++) {
        memset(cell[y], ' ', WIDTH);
        cell[y][WIDTH] = '\0';
    }
    for (size_t i = 0; i < c->n; i++) {
        int x = (int)lround(place_of(c, c->x[i]) * (WIDTH - 1));
        if (isfinite(c->epsilon[i]))
            cell[most > 0 ? (int)lround(c->epsilon[i] / most * (HEIGHT - 1)) : 0][x] = '*';
    }
    printf("epsilon (%s%s", psg_accountant_kind_name(q->kind), c->by_delta ? ")\n" : ", delta ");
    if (!c->by_delta)
        printf("%g)\n", delta);
    for (int y = HEIGHT - 1; y >= 0; y--)
        if (y == HEIGHT - 1 || y == HEIGHT / 2 || y == 0)
            printf("%*.4g |%s\n", MARGIN - 2, most * y / (HEIGHT - 1), cell[y]);
        else
            printf("%*s|%s\n", MARGIN - 1, "", cell[y]);
    printf("%*s+", MARGIN - 1, "");
    for (int x = 0; x < WIDTH; x++)
        putchar('-');
    printf("\n%*s%-*.10g%*.10g  %s\n", MARGIN, "", WIDTH / 2, c->x[0], WIDTH / 2, c->x[c->n - 1],
           c->by_delta ? "delta, logarithmic" : "steps");
    if (n_inf > 0)
        printf("no finite epsilon holds at %zu of %zu points\n", n_inf, c->n);
}

/* ---- the command ---- */

struct range {
    const char *against;
    double delta, low, high;
    int64_t points;
};

/* -1 to go on */
static int check_range(const struct question *q, const struct range *range, struct curve *c)
{
    c->by_delta = strcmp(range->against, "delta") == 0;
    if (!c->by_delta && strcmp(range->against, "steps") != 0)
        return question_fail_option("curve", "--against is steps or delta");
    if (q->n_event == 0 || (!c->by_delta && isnan(range->delta)))
        return question_fail_option("curve", c->by_delta ? "needs at least one --event"
                                                         : "needs --delta and at least one --event");
    if (c->by_delta && !(range->low > 0 && range->low < range->high && range->high < 1))
        return question_fail_option("curve", "--delta-min lies above 0 and below --delta-max, "
                                             "which lies below 1");
    if (range->points < 2 || range->points > POINTS_MAX)
        return question_fail_option("curve", "--points is from 2 to 1000");
    c->n = (size_t)range->points;
    return -1;
}

static int draw(const struct cli *cli, const struct question *q, const struct range *range,
                bool csv, struct curve *c)
{
    struct psg_accountant *acc = NULL;
    struct psg_error err;
    int r = psg_accountant_new(q->kind, &acc, &err);
    if (r == 0)
        r = c->by_delta ? against_delta(q, range->low, range->high, acc, c, &err)
                        : against_steps(q, range->delta, acc, c, &err);
    psg_accountant_free(acc);
    if (r)
        return question_fail("curve", &err);
    if (cli->json)
        print_json(q, c, range->delta);
    else if (csv)
        print_csv(c);
    else
        print_plot(q, c, range->delta);
    return EXIT_SUCCEEDED;
}

int command_privacy_curve(struct cli *cli, int argc, char **argv)
{
    struct question q = { .accountant = "rdp" };
    struct range range = { "steps", NAN, 1e-12, 1e-2, 50 };
    bool csv = false;
    const struct args_option options[] = {
        { "accountant", "NAME", ARGS_TEXT, &q.accountant, "rdp (default), gdp or prv" },
        { "against", "WHAT", ARGS_TEXT, &range.against, "steps (default) or delta" },
        { "delta", "DELTA", ARGS_REAL, &range.delta, "probability of a larger loss" },
        { "delta-min", "DELTA", ARGS_REAL, &range.low, "first of --against delta (1e-12)" },
        { "delta-max", "DELTA", ARGS_REAL, &range.high, "last of --against delta (1e-2)" },
        { "points", "N", ARGS_INT, &range.points, "of the curve, 2 to 1000 (50)" },
        { "csv", NULL, ARGS_FLAG, &csv, "print CSV" },
        { "event", "Q,S,STEPS", ARGS_LIST, &q.events,
          "steps of sample rate Q and noise multiplier S, in this order; repeatable" },
    };
    const struct args_spec spec = { "privacy curve",
                                    "",
                                    "Epsilon after ever more of the steps, or of all of them at "
                                    "ever larger deltas, drawn in\nthe terminal.",
                                    options,
                                    ARGS_COUNT(options),
                                    0,
                                    0 };
    _cleanup_free_ struct curve *c = calloc(1, sizeof *c);
    if (!c) {
        fprintf(stderr, "dpsgctl: out of memory\n");
        return EXIT_FAILED;
    }
    int r = args_parse(cli, &spec, argc, argv, NULL);
    if (r < 0)
        r = question_read(&q, "curve");
    if (r < 0)
        r = check_range(&q, &range, c);
    return r >= 0 ? r : draw(cli, &q, &range, csv, c);
}
