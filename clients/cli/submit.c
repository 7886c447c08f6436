/* dpsgctl submit */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "set.h"

#define SPEC_MAX (16u << 20)

/* the document with every --set applied; NULL: it was said why */
static char *apply_all(char *spec, size_t *lenp, const struct args_list *sets)
{
    json_error_t where;
    char text[512] = "";
    json_t *root = json_loadb(spec, *lenp, JSON_REJECT_DUPLICATES, &where);
    free(spec);
    if (!root) {
        fprintf(stderr, "dpsgctl: line %d, column %d: %s\n", where.line, where.column,
                where.text);
        return NULL;
    }
    for (size_t i = 0; i < sets->n && !text[0]; i++)
        set_apply(root, sets->values[i], text, sizeof text);
    char *changed = text[0] ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!changed) {
        fprintf(stderr, "dpsgctl: %s\n", text[0] ? text : "out of memory");
        return NULL;
    }
    *lenp = 0;
    while (changed[*lenp])
        ++*lenp;
    return changed;
}

static int dry_run(const struct cli *cli, dpc_client *client, const char *spec, size_t len)
{
    struct dpc_error err;
    struct dpc_text plan;
    if (dpc_dry_run(client, spec, len, &plan, &err))
        return cli_fail(&err);
    cli_print_json(cli, &plan);
    return EXIT_SUCCEEDED;
}

static int submit(const struct cli *cli, dpc_client *client, const char *spec, size_t len,
                  const char *key, bool follow)
{
    struct dpc_error err;
    struct dpc_job *job;
    if (dpc_submit(client, spec, len, key, &job, &err))
        return cli_fail(&err);
    if (cli->json) {
        puts(job->json);
    } else {
        cli_put(job->id);
        putchar(' ');
        cli_put(job->status_text);
        putchar('\n');
    }
    fflush(stdout);
    int r = follow ? cli_follow(cli, client, job->id, 0) : EXIT_SUCCEEDED;
    dpc_job_free(job);
    return r;
}

int command_submit(struct cli *cli, int argc, char **argv)
{
    bool follow = false, dry = false;
    const char *key = NULL, *file;
    struct args_list sets = { 0 };
    const struct args_option options[] = {
        { "follow", NULL, ARGS_FLAG, &follow, "watch the job until it ends" },
        { "dry-run", NULL, ARGS_FLAG, &dry, "print the plan and its cost, submit nothing" },
        { "set", "PATH=VALUE", ARGS_LIST, &sets,
          "change a member first: privacy.noise_multiplier=1.3" },
        { "idempotency-key", "TEXT", ARGS_TEXT, &key,
          "the same key never makes a second job" },
    };
    const struct args_spec spec = {
        "submit",
        "FILE",
        "Sends the job in FILE (JSON; - is standard input). Prints its "
        "id and status.",
        options,
        ARGS_COUNT(options),
        1,
        1
    };
    int r = args_parse(cli, &spec, argc, argv, &file);
    if (r >= 0)
        return r;
    size_t len;
    char *text = cli_read_file(file, SPEC_MAX, &len);
    if (text && sets.n)
        text = apply_all(text, &len, &sets);
    if (!text)
        return EXIT_FAILED;
    dpc_client *client = cli_open(cli);
    r = EXIT_FAILED;
    if (client)
        r = dry ? dry_run(cli, client, text, len)
                : submit(cli, client, text, len, key, follow);
    dpc_close(client);
    free(text);
    return r;
}
