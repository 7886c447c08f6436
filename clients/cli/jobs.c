/* dpsgctl list, show, cancel, delete, weights, artifact */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static void put_column(const char *text, size_t width)
{
    size_t n = 0;
    for (; text && text[n]; n++)
        putchar((unsigned char)text[n] < 0x20 || text[n] == 0x7f ? '?' : text[n]);
    for (; n < width; n++)
        putchar(' ');
    putchar(' ');
}

static void print_page(const struct dpc_jobs *page)
{
    for (size_t i = 0; i < page->n; i++) {
        const struct dpc_job *job = &page->jobs[i];
        char step[48] = "-", epsilon[24] = "-";
        if (job->step >= 0)
            snprintf(step, sizeof step, "%lld/%lld", (long long)job->step,
                     (long long)job->of);
        if (!isnan(job->epsilon))
            snprintf(epsilon, sizeof epsilon, "%.4g", job->epsilon);
        put_column(job->id, 30);
        put_column(job->status_text, 10);
        put_column(step, 13);
        put_column(epsilon, 8);
        put_column(job->dataset, 16);
        cli_put(job->name ? job->name : "");
        putchar('\n');
    }
}

int command_list(struct cli *cli, int argc, char **argv)
{
    struct dpc_filter filter = { 0 };
    int64_t limit = 20;
    const struct args_option options[] = {
        { "status", "STATUS", ARGS_TEXT, &filter.status,
          "queued, running, succeeded, ..." },
        { "dataset", "NAME", ARGS_TEXT, &filter.dataset, "jobs on this dataset" },
        { "owner", "NAME", ARGS_TEXT, &filter.owner, "jobs of this owner" },
        { "after", "ID", ARGS_TEXT, &filter.after, "older than this job" },
        { "limit", "N", ARGS_INT, &limit, "at most so many (20)" },
    };
    const struct args_spec spec = {
        "list", "", "Lists jobs, newest first.", options, ARGS_COUNT(options), 0, 0
    };
    int r = args_parse(cli, &spec, argc, argv, NULL);
    if (r >= 0)
        return r;
    filter.limit = limit > 0 && limit < 100000 ? (int)limit : 0;
    struct dpc_error err;
    struct dpc_jobs *page;
    dpc_client *client = cli_open(cli);
    if (!client)
        return EXIT_FAILED;
    r = EXIT_SUCCEEDED;
    if (dpc_list(client, &filter, &page, &err)) {
        r = cli_fail(&err);
    } else {
        if (cli->json)
            puts(page->json);
        else
            print_page(page);
        if (!cli->json && page->has_more && page->n) {
            printf("more with --after ");
            cli_put(page->jobs[page->n - 1].id);
            putchar('\n');
        }
        dpc_jobs_free(page);
    }
    dpc_close(client);
    return r;
}

typedef int (*job_fn)(dpc_client *client, const char *id, struct dpc_job **jobp,
                      struct dpc_error *err);

/* a command on one job whose answer is the job */
static int job_command(struct cli *cli, const char *name, const char *about, job_fn fn,
                       int argc, char **argv)
{
    const char *id;
    const struct args_spec spec = { name, "ID", about, NULL, 0, 1, 1 };
    int r = args_parse(cli, &spec, argc, argv, &id);
    if (r >= 0)
        return r;
    struct dpc_error err;
    struct dpc_job *job;
    dpc_client *client = cli_open(cli);
    if (!client)
        return EXIT_FAILED;
    r = fn(client, id, &job, &err) ? cli_fail(&err) : cli_print_job(cli, job);
    if (r == EXIT_SUCCEEDED)
        dpc_job_free(job);
    dpc_close(client);
    return r;
}

int command_show(struct cli *cli, int argc, char **argv)
{
    return job_command(cli, "show", "Shows one job.", dpc_get, argc, argv);
}

int command_cancel(struct cli *cli, int argc, char **argv)
{
    return job_command(cli, "cancel", "Cancels a job between two steps.", dpc_cancel, argc,
                       argv);
}

int command_delete(struct cli *cli, int argc, char **argv)
{
    const char *id;
    const struct args_spec spec = {
        "delete", "ID", "Deletes a finished job. What it cost stays in the ledger.",
        NULL,     0,    1,
        1
    };
    int r = args_parse(cli, &spec, argc, argv, &id);
    if (r >= 0)
        return r;
    struct dpc_error err;
    dpc_client *client = cli_open(cli);
    if (!client)
        return EXIT_FAILED;
    r = dpc_delete(client, id, &err) ? cli_fail(&err) : EXIT_SUCCEEDED;
    dpc_close(client);
    return r;
}

static int download(const struct cli *cli, const char *id, const char *artifact,
                    const char *path)
{
    struct dpc_error err;
    dpc_client *client = cli_open(cli);
    if (!client)
        return EXIT_FAILED;
    int r = EXIT_SUCCEEDED;
    if (dpc_download(client, id, artifact, path, &err))
        r = cli_fail(&err);
    else
        printf("%s\n", path);
    dpc_close(client);
    return r;
}

int command_weights(struct cli *cli, int argc, char **argv)
{
    const char *id, *output = "model.safetensors";
    const struct args_option options[] = {
        { "output", "PATH", ARGS_TEXT, &output, "where to (model.safetensors)" },
    };
    const struct args_spec spec = {
        "weights",
        "ID",
        "Downloads the model of a job, for load_state_dict and the like.",
        options,
        ARGS_COUNT(options),
        1,
        1
    };
    int r = args_parse(cli, &spec, argc, argv, &id);
    return r >= 0 ? r : download(cli, id, "model.safetensors", output);
}

int command_artifact_download(struct cli *cli, int argc, char **argv)
{
    const char *operands[2], *output = NULL;
    const struct args_option options[] = {
        { "output", "PATH", ARGS_TEXT, &output, "where to (the artifact's name)" },
    };
    const struct args_spec spec = { "artifact download",
                                    "ID NAME",
                                    "Downloads one of a job's artifacts.",
                                    options,
                                    ARGS_COUNT(options),
                                    2,
                                    2 };
    int r = args_parse(cli, &spec, argc, argv, operands);
    if (r >= 0)
        return r;
    if (!output && strchr(operands[1], '/')) {
        fprintf(stderr, "dpsgctl: say where to with --output\n");
        return EXIT_USAGE;
    }
    return download(cli, operands[0], operands[1], output ? output : operands[1]);
}
