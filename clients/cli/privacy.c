/* dpsgctl privacy: the accountants on the command line. JSON on standard output; a number
 * that is infinite is null. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "event.h"
#include "question.h"
#include "proto/text.h"
#include "psg/accountant.h"

#define STEPS_MAX 1000000000

int question_fail(const char *command, const struct psg_error *err)
{
    fprintf(stderr, "dpsgctl privacy %s: %s%s%s\n", command, err->place,
            err->place[0] ? ": " : "", err->text);
    return EXIT_FAILED;
}

int question_fail_option(const char *command, const char *what)
{
    fprintf(stderr, "dpsgctl privacy %s: %s (see dpsgctl privacy %s --help)\n", command,
            what, command);
    return EXIT_USAGE;
}

/* a number without sign or exponent games: whole, not negative */
static int parse_steps(const char *text, int64_t *stepsp)
{
    char *end;
    size_t n = strlen(text);
    if (n == 0 || n > 15 || strspn(text, "0123456789") != n)
        return -1;
    *stepsp = strtoll(text, &end, 10);
    return 0;
}

int event_parse(const char *text, struct psg_dp_event *event)
{
    const char *comma = strchr(text, ','), *last = comma ? strchr(comma + 1, ',') : NULL;
    if (!last || proto_real_parse(text, (size_t)(comma - text), &event->sample_rate) ||
        proto_real_parse(comma + 1, (size_t)(last - comma - 1), &event->noise_multiplier))
        return -1;
    return parse_steps(last + 1, &event->steps);
}

int question_read(struct question *q, const char *command)
{
    struct psg_error err;
    if (psg_accountant_kind_parse(q->accountant, &q->kind, &err))
        return question_fail(command, &err);
    for (size_t i = 0; i < q->events.n; i++)
        if (event_parse(q->events.values[i], &q->event[q->n_event++]))
            return question_fail_option(command, "an event is SAMPLE_RATE,NOISE_MULTIPLIER,STEPS");
    return -1;
}

void question_put(const char *name, double value)
{
    char buf[PROTO_REAL_MAX];
    printf("\"%s\": %s", name, proto_real_text(value, buf));
}

static void print_tail(const struct question *q, double delta)
{
    printf(", \"accountant\": \"%s\", ", psg_accountant_kind_name(q->kind));
    question_put("delta", delta);
    printf("}\n");
}

/* What is known beside the answer: the order that won; bounds and how they were found. */
static void print_details(const struct question *q, const struct psg_dp_epsilon *out)
{
    if (q->kind == PSG_ACCOUNTANT_PRV) {
        printf(", ");
        question_put("lower", out->lower);
        printf(", ");
        question_put("estimate", out->estimate);
        printf(", \"method\": \"%s\"", psg_accountant_kind_name(out->method));
    }
    if (out->order > 0) {
        printf(", ");
        question_put("order", out->order);
    }
    if (!isfinite(out->epsilon)) /* JSON has no infinity: epsilon is null */
        printf(", \"note\": \"no finite epsilon holds\"");
}

int command_privacy_epsilon(struct cli *cli, int argc, char **argv)
{
    struct question q = { .accountant = "rdp" };
    double delta = NAN;
    const struct args_option options[] = {
        { "accountant", "NAME", ARGS_TEXT, &q.accountant, "rdp (default), gdp or prv" },
        { "delta", "DELTA", ARGS_REAL, &delta, "probability of a larger loss" },
        { "event", "Q,S,STEPS", ARGS_LIST, &q.events,
          "steps of sample rate Q and noise multiplier S; repeatable" },
    };
    const struct args_spec spec = { "privacy epsilon",
                                    "",
                                    "Epsilon at DELTA of all the events together.",
                                    options,
                                    ARGS_COUNT(options),
                                    0,
                                    0 };
    int r = args_parse(cli, &spec, argc, argv, NULL);
    if (r < 0)
        r = question_read(&q, "epsilon");
    if (r >= 0)
        return r;
    if (isnan(delta) || q.n_event == 0)
        return question_fail_option("epsilon", "needs --delta and at least one --event");
    struct psg_dp_epsilon out;
    struct psg_error err;
    if (psg_dp_epsilon(q.kind, q.event, q.n_event, delta, &out, &err))
        return question_fail("epsilon", &err);
    printf("{");
    question_put("epsilon", out.epsilon);
    print_details(&q, &out);
    print_tail(&q, delta);
    return EXIT_SUCCEEDED;
}

int command_privacy_delta(struct cli *cli, int argc, char **argv)
{
    struct question q = { .accountant = "rdp" };
    double epsilon = NAN;
    const struct args_option options[] = {
        { "accountant", "NAME", ARGS_TEXT, &q.accountant, "rdp (default), gdp or prv" },
        { "epsilon", "EPSILON", ARGS_REAL, &epsilon, "the loss in question" },
        { "event", "Q,S,STEPS", ARGS_LIST, &q.events,
          "steps of sample rate Q and noise multiplier S; repeatable" },
    };
    const struct args_spec spec = { "privacy delta",
                                    "",
                                    "Delta at EPSILON of all the events together.",
                                    options,
                                    ARGS_COUNT(options),
                                    0,
                                    0 };
    int r = args_parse(cli, &spec, argc, argv, NULL);
    if (r < 0)
        r = question_read(&q, "delta");
    if (r >= 0)
        return r;
    if (isnan(epsilon) || q.n_event == 0)
        return question_fail_option("delta", "needs --epsilon and at least one --event");
    struct psg_dp_epsilon out;
    struct psg_error err;
    if (psg_dp_delta(q.kind, q.event, q.n_event, epsilon, &out, &err))
        return question_fail("delta", &err);
    printf("{");
    question_put("epsilon", epsilon);
    print_details(&q, &out);
    print_tail(&q, out.delta);
    return EXIT_SUCCEEDED;
}

int command_privacy_noise_multiplier(struct cli *cli, int argc, char **argv)
{
    struct question q = { .accountant = "rdp" };
    double epsilon = NAN, delta = NAN, rate = NAN, noise;
    int64_t steps = -1;
    const struct args_option options[] = {
        { "accountant", "NAME", ARGS_TEXT, &q.accountant, "rdp (default), gdp or prv" },
        { "target-epsilon", "EPSILON", ARGS_REAL, &epsilon, "not to be exceeded" },
        { "delta", "DELTA", ARGS_REAL, &delta, "probability of a larger loss" },
        { "sample-rate", "Q", ARGS_REAL, &rate, "share of the records in a step" },
        { "steps", "N", ARGS_INT, &steps, "number of steps" },
        { "event", "Q,S,STEPS", ARGS_LIST, &q.events,
          "steps that ran already; repeatable" },
    };
    const struct args_spec spec = {
        "privacy noise-multiplier",
        "",
        "Smallest noise multiplier with which the steps stay within "
        "the target.",
        options,
        ARGS_COUNT(options),
        0,
        0
    };
    int r = args_parse(cli, &spec, argc, argv, NULL);
    if (r < 0)
        r = question_read(&q, "noise-multiplier");
    if (r >= 0)
        return r;
    if (isnan(epsilon) || isnan(delta) || isnan(rate) || steps < 0)
        return question_fail_option("noise-multiplier",
                           "needs --target-epsilon, --delta, --sample-rate and --steps");
    const struct psg_dp_target target = { q.kind, epsilon, delta, q.event, q.n_event };
    struct psg_dp_epsilon out;
    struct psg_error err;
    if (psg_dp_noise_multiplier(&target, rate, steps, &noise, &out, &err))
        return question_fail("noise-multiplier", &err);
    printf("{");
    question_put("noise_multiplier", noise);
    printf(", ");
    question_put("epsilon", out.epsilon);
    print_tail(&q, delta);
    return EXIT_SUCCEEDED;
}

int command_privacy_steps(struct cli *cli, int argc, char **argv)
{
    struct question q = { .accountant = "rdp" };
    double epsilon = NAN, delta = NAN, rate = NAN, noise = NAN;
    int64_t most = STEPS_MAX, steps;
    const struct args_option options[] = {
        { "accountant", "NAME", ARGS_TEXT, &q.accountant, "rdp (default), gdp or prv" },
        { "target-epsilon", "EPSILON", ARGS_REAL, &epsilon, "not to be exceeded" },
        { "delta", "DELTA", ARGS_REAL, &delta, "probability of a larger loss" },
        { "sample-rate", "Q", ARGS_REAL, &rate, "share of the records in a step" },
        { "noise-multiplier", "S", ARGS_REAL, &noise, "noise of a step" },
        { "max-steps", "N", ARGS_INT, &most, "look no further than this (1e9)" },
        { "event", "Q,S,STEPS", ARGS_LIST, &q.events,
          "steps that ran already; repeatable" },
    };
    const struct args_spec spec = { "privacy steps",
                                    "",
                                    "How many (more) steps stay within the target.",
                                    options,
                                    ARGS_COUNT(options),
                                    0,
                                    0 };
    int r = args_parse(cli, &spec, argc, argv, NULL);
    if (r < 0)
        r = question_read(&q, "steps");
    if (r >= 0)
        return r;
    if (isnan(epsilon) || isnan(delta) || isnan(rate) || isnan(noise) || most < 0)
        return question_fail_option("steps", "needs --target-epsilon, --delta, --sample-rate and "
                                    "--noise-multiplier");
    const struct psg_dp_target target = { q.kind, epsilon, delta, q.event, q.n_event };
    struct psg_error err;
    if (psg_dp_steps_that_fit(&target, rate, noise, most, &steps, &err))
        return question_fail("steps", &err);
    printf("{\"steps\": %" PRId64 ", ", steps);
    question_put("target_epsilon", epsilon);
    print_tail(&q, delta);
    return EXIT_SUCCEEDED;
}
