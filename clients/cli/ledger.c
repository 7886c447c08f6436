/* dpsgctl ledger: what a custodian reads and writes in a dataset's ledger. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cli.h"
#include "event.h"

typedef int (*send_fn)(dpc_client *client, const char *name, const char *body, size_t len,
                       const char *key, struct dpc_text *answer, struct dpc_error *err);

/* Sends the body (taken) and prints the budget that follows. */
static int send_body(struct cli *cli, const char *dataset, json_t *body, const char *key,
                     send_fn fn)
{
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(body);
    if (!text) {
        fprintf(stderr, "dpsgctl: out of memory, or text that is not UTF-8\n");
        return EXIT_FAILED;
    }
    struct dpc_error err;
    struct dpc_text answer;
    dpc_client *client = cli_open(cli);
    int r = EXIT_FAILED;
    if (client && fn(client, dataset, text, strlen(text), key, &answer, &err)) {
        r = cli_fail(&err);
    } else if (client) {
        cli_print_json(cli, &answer);
        r = EXIT_SUCCEEDED;
    }
    dpc_close(client);
    free(text);
    return r;
}

static int fail_option(const char *command, const char *what)
{
    fprintf(stderr, "dpsgctl ledger %s: %s (see dpsgctl ledger %s --help)\n", command, what,
            command);
    return EXIT_USAGE;
}

int command_ledger_raise(struct cli *cli, int argc, char **argv)
{
    const char *dataset, *reason = NULL, *key = NULL;
    double epsilon = NAN;
    const struct args_option options[] = {
        { "epsilon", "EPSILON", ARGS_REAL, &epsilon, "the new cap" },
        { "reason", "TEXT", ARGS_TEXT, &reason, "why; kept in the ledger with your name" },
        { "idempotency-key", "TEXT", ARGS_TEXT, &key, "the same key never changes the cap twice" },
    };
    const struct args_spec spec = { "ledger raise",
                                    "DATASET",
                                    "Changes the cap of a dataset's budget. It never becomes less "
                                    "than what is spent and\nreserved.",
                                    options,
                                    ARGS_COUNT(options),
                                    1,
                                    1 };
    int r = args_parse(cli, &spec, argc, argv, &dataset);
    if (r >= 0)
        return r;
    if (isnan(epsilon) || !reason)
        return fail_option("raise", "needs --epsilon and --reason");
    return send_body(cli, dataset,
                     json_pack("{s:f, s:s}", "epsilon", epsilon, "reason", reason), key,
                     dpc_budget_change);
}

static int freeze(struct cli *cli, bool frozen, int argc, char **argv)
{
    const char *dataset, *reason = NULL;
    const char *name = frozen ? "ledger freeze" : "ledger unfreeze";
    const struct args_option options[] = {
        { "reason", "TEXT", ARGS_TEXT, &reason, "why; kept in the ledger with your name" },
    };
    const struct args_spec spec = { name,
                                    "DATASET",
                                    frozen ? "Refuses new jobs on a dataset; those that are "
                                             "admitted go on."
                                           : "Admits jobs on a dataset again.",
                                    options,
                                    ARGS_COUNT(options),
                                    1,
                                    1 };
    int r = args_parse(cli, &spec, argc, argv, &dataset);
    if (r >= 0)
        return r;
    if (!reason)
        return fail_option(name + strlen("ledger "), "needs --reason");
    return send_body(cli, dataset,
                     json_pack("{s:b, s:s}", "frozen", frozen, "reason", reason), NULL,
                     dpc_budget_change);
}

int command_ledger_freeze(struct cli *cli, int argc, char **argv)
{
    return freeze(cli, true, argc, argv);
}

int command_ledger_unfreeze(struct cli *cli, int argc, char **argv)
{
    return freeze(cli, false, argc, argv);
}

static json_t *import_body(const struct args_list *list, double epsilon, const char *reason)
{
    json_t *body = json_pack("{s:s}", "reason", reason);
    json_t *events = json_array();
    bool failed = !body || !events;
    for (size_t i = 0; i < list->n && !failed; i++) {
        struct psg_dp_event e;
        failed = event_parse(list->values[i], &e) != 0 ||
                 json_array_append_new(events, json_pack("{s:f, s:f, s:I}", "sample_rate",
                                                         e.sample_rate, "noise_multiplier",
                                                         e.noise_multiplier, "steps",
                                                         (json_int_t)e.steps)) != 0;
    }
    if (!failed && list->n > 0)
        failed = json_object_set(body, "events", events) != 0;
    if (!failed && !isnan(epsilon))
        failed = json_object_set_new(body, "epsilon", json_real(epsilon)) != 0;
    json_decref(events);
    if (!failed)
        return body;
    json_decref(body);
    return NULL;
}

int command_ledger_import(struct cli *cli, int argc, char **argv)
{
    const char *dataset, *reason = NULL, *key = NULL;
    double epsilon = NAN;
    struct args_list events = { 0 };
    const struct args_option options[] = {
        { "event", "Q,S,STEPS", ARGS_LIST, &events,
          "steps of sample rate Q and noise multiplier S; repeatable" },
        { "epsilon", "EPSILON", ARGS_REAL, &epsilon, "of releases with delta 0" },
        { "reason", "TEXT", ARGS_TEXT, &reason, "what it was; kept in the ledger" },
        { "idempotency-key", "TEXT", ARGS_TEXT, &key, "the same key never counts it twice" },
    };
    const struct args_spec spec = { "ledger import",
                                    "DATASET",
                                    "Counts what was released of a dataset elsewhere as spent.",
                                    options,
                                    ARGS_COUNT(options),
                                    1,
                                    1 };
    int r = args_parse(cli, &spec, argc, argv, &dataset);
    if (r >= 0)
        return r;
    if (!reason || (events.n == 0 && isnan(epsilon)))
        return fail_option("import", "needs --reason, and --event or --epsilon");
    for (size_t i = 0; i < events.n; i++) {
        struct psg_dp_event e;
        if (event_parse(events.values[i], &e))
            return fail_option("import", "an event is SAMPLE_RATE,NOISE_MULTIPLIER,STEPS");
    }
    return send_body(cli, dataset, import_body(&events, epsilon, reason), key,
                     dpc_ledger_import);
}

int command_ledger_show(struct cli *cli, int argc, char **argv)
{
    const char *dataset;
    int64_t after = 0;
    const struct args_option options[] = {
        { "after", "SEQ", ARGS_INT, &after, "rows that follow this one" },
    };
    const struct args_spec spec = { "ledger show",
                                    "DATASET",
                                    "Shows up to a hundred rows of a dataset's ledger.",
                                    options,
                                    ARGS_COUNT(options),
                                    1,
                                    1 };
    int r = args_parse(cli, &spec, argc, argv, &dataset);
    if (r >= 0)
        return r;
    if (after < 0)
        return fail_option("show", "--after is a number of a row");
    struct dpc_error err;
    struct dpc_text answer;
    dpc_client *client = cli_open(cli);
    r = EXIT_FAILED;
    if (client && dpc_ledger(client, dataset, after, &answer, &err)) {
        r = cli_fail(&err);
    } else if (client) {
        cli_print_json(cli, &answer);
        r = EXIT_SUCCEEDED;
    }
    dpc_close(client);
    return r;
}
