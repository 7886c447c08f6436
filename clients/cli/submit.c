/* dpsgctl submit */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "set.h"

#define SPEC_MAX (16u << 20)

/* ---- --model ---- */

struct sending {
    const char *path;
    bool terminal, shown;
};

static int on_progress(int64_t done, int64_t total, void *user)
{
    struct sending *s = user;
    if (!s->terminal || (done == total && !s->shown))
        return 0; /* the daemon had it */
    s->shown = true;
    fprintf(stderr, "\r\033[K%s: %3d %% of %.1f MB", s->path, (int)(100.0 * (double)done / (double)total),
            (double)total * 1e-6);
    if (done == total)
        fputc('\n', stderr);
    return 0;
}

/* Puts the digest into the document's model; false: it was said why. */
static bool put_digest(json_t *root, const char *digest)
{
    json_t *model = json_object_get(root, "model");
    if (json_object_get(model, "layers")) {
        fputs("dpsgctl: the job has layers, and --model a file: a model is one of both\n", stderr);
        return false;
    }
    if (!json_is_object(model) && json_object_set_new(root, "model", json_object()))
        return false;
    return json_object_set_new(json_object_get(root, "model"), "torchscript",
                               json_string(digest)) == 0;
}

/* The document with the uploaded file as its model; NULL: it was said why. Takes spec. */
static char *with_model(dpc_client *client, const char *file, char *spec, size_t *lenp)
{
    struct sending sending = { .path = file, .terminal = isatty(STDERR_FILENO) };
    char digest[DPC_DIGEST_SIZE], *changed = NULL;
    struct dpc_error err;
    json_error_t where;
    json_t *root = json_loadb(spec, *lenp, JSON_REJECT_DUPLICATES, &where);
    free(spec);
    if (!json_is_object(root)) {
        fprintf(stderr, "dpsgctl: line %d, column %d: %s\n", where.line, where.column,
                root ? "a job is an object" : where.text);
    } else if (dpc_upload(client, file, on_progress, &sending, digest, &err)) {
        if (sending.shown)
            fputc('\n', stderr);
        cli_fail(&err);
    } else if (put_digest(root, digest)) {
        changed = json_dumps(root, JSON_COMPACT);
    }
    json_decref(root);
    *lenp = changed ? strlen(changed) : 0;
    return changed;
}

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
    const char *key = NULL, *model = NULL, *file;
    struct args_list sets = { 0 };
    const struct args_option options[] = {
        { "follow", NULL, ARGS_FLAG, &follow, "watch the job until it ends" },
        { "dry-run", NULL, ARGS_FLAG, &dry, "print the plan and its cost, submit nothing" },
        { "set", "PATH=VALUE", ARGS_LIST, &sets,
          "change a member first: privacy.noise_multiplier=1.3" },
        { "model", "PT", ARGS_TEXT, &model,
          "a TorchScript file: uploaded if need be, it is the job's model" },
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
    if (client && model)
        text = with_model(client, model, text, &len);
    if (client && text)
        r = dry ? dry_run(cli, client, text, len)
                : submit(cli, client, text, len, key, follow);
    dpc_close(client);
    free(text);
    return r;
}
