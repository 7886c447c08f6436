/* Commands whose answer is printed as it comes: datasets, budgets, the daemon itself. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"

typedef int (*get_fn)(dpc_client *client, const char *name, struct dpc_text *answer,
                      struct dpc_error *err);

/* GET of something that has a name, or of a list when operands is "" */
static int get_command(struct cli *cli, const struct args_spec *spec, get_fn fn, int argc,
                       char **argv)
{
    const char *name = NULL;
    int r = args_parse(cli, spec, argc, argv, &name);
    if (r >= 0)
        return r;
    struct dpc_error err;
    struct dpc_text answer;
    dpc_client *client = cli_open(cli);
    if (!client)
        return EXIT_FAILED;
    r = EXIT_SUCCEEDED;
    if (fn(client, name, &answer, &err))
        r = cli_fail(&err);
    else
        cli_print_json(cli, &answer);
    dpc_close(client);
    return r;
}

int command_dataset_show(struct cli *cli, int argc, char **argv)
{
    const struct args_spec spec = {
        "dataset show", "NAME", "Shows one dataset.", NULL, 0, 1, 1
    };
    return get_command(cli, &spec, dpc_dataset_get, argc, argv);
}

int command_dataset_list(struct cli *cli, int argc, char **argv)
{
    const struct args_spec spec = {
        "dataset list", "", "Lists the datasets.", NULL, 0, 0, 0
    };
    return get_command(cli, &spec, dpc_dataset_list, argc, argv);
}

int command_budget_show(struct cli *cli, int argc, char **argv)
{
    const struct args_spec spec = {
        "budget show",
        "DATASET",
        "Shows what of a dataset's privacy budget is spent, reserved and "
        "left.",
        NULL,
        0,
        1,
        1
    };
    return get_command(cli, &spec, dpc_budget, argc, argv);
}

int command_artifact_list(struct cli *cli, int argc, char **argv)
{
    const struct args_spec spec = {
        "artifact list", "ID", "Lists what a job left behind.", NULL, 0, 1, 1
    };
    return get_command(cli, &spec, dpc_artifacts, argc, argv);
}

int command_dataset_add(struct cli *cli, int argc, char **argv)
{
    const char *file;
    const struct args_spec spec = {
        "dataset add",
        "FILE",
        "Registers the dataset described in FILE (JSON; - is standard "
        "input).",
        NULL,
        0,
        1,
        1
    };
    int r = args_parse(cli, &spec, argc, argv, &file);
    if (r >= 0)
        return r;
    size_t len;
    char *text = cli_read_file(file, 1u << 20, &len);
    if (!text)
        return EXIT_FAILED;
    struct dpc_error err;
    struct dpc_text answer;
    dpc_client *client = cli_open(cli);
    r = EXIT_FAILED;
    if (client && dpc_dataset_add(client, text, len, &answer, &err)) {
        r = cli_fail(&err);
    } else if (client) {
        cli_print_json(cli, &answer);
        r = EXIT_SUCCEEDED;
    }
    dpc_close(client);
    free(text);
    return r;
}

static int get_queue(dpc_client *client, const char *name, struct dpc_text *answer,
                     struct dpc_error *err)
{
    (void)name;
    return dpc_request(client, "GET", "/queue", NULL, 0, answer, err);
}

static int get_devices(dpc_client *client, const char *name, struct dpc_text *answer,
                       struct dpc_error *err)
{
    (void)name;
    return dpc_request(client, "GET", "/devices", NULL, 0, answer, err);
}

static int get_whoami(dpc_client *client, const char *name, struct dpc_text *answer,
                      struct dpc_error *err)
{
    (void)name;
    return dpc_request(client, "GET", "/whoami", NULL, 0, answer, err);
}

static int get_version(dpc_client *client, const char *name, struct dpc_text *answer,
                       struct dpc_error *err)
{
    (void)name;
    return dpc_request(client, "GET", "/version", NULL, 0, answer, err);
}

int command_queue(struct cli *cli, int argc, char **argv)
{
    const struct args_spec spec = { "queue", "", "Shows running and queued jobs.", NULL, 0,
                                    0,       0 };
    return get_command(cli, &spec, get_queue, argc, argv);
}

int command_devices(struct cli *cli, int argc, char **argv)
{
    const struct args_spec spec = { "devices", "", "Shows what jobs can run on.", NULL, 0,
                                    0,         0 };
    return get_command(cli, &spec, get_devices, argc, argv);
}

int command_whoami(struct cli *cli, int argc, char **argv)
{
    const struct args_spec spec = { "whoami", "", "Shows the owner and role of your token.",
                                    NULL,     0,  0,
                                    0 };
    return get_command(cli, &spec, get_whoami, argc, argv);
}

int command_version(struct cli *cli, int argc, char **argv)
{
    const struct args_spec spec = { "version", "", "Shows the daemon's version.", NULL, 0,
                                    0,         0 };
    return get_command(cli, &spec, get_version, argc, argv);
}
