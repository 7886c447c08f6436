/* dpsgctl follow */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "progress.h"

static int on_event(const struct dpc_event *event, void *user)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    progress_event(user, event, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    return 0;
}

int cli_follow(const struct cli *cli, dpc_client *client, const char *id, int64_t after)
{
    struct dpc_error err;
    enum dpc_job_status status;
    struct progress progress;
    struct winsize size = { 0 };
    bool terminal = isatty(STDOUT_FILENO);
    if (terminal)
        ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    progress_init(&progress, stdout, terminal, size.ws_col, cli->json);
    int r = dpc_follow(client, id, after, on_event, &progress, &status, &err);
    progress_end(&progress);
    if (r)
        return cli_fail(&err);
    switch (status) {
    case DPC_JOB_SUCCEEDED: return EXIT_SUCCEEDED;
    case DPC_JOB_CANCELLED: return EXIT_CANCELLED;
    default: return EXIT_FAILED;
    }
}

int command_follow(struct cli *cli, int argc, char **argv)
{
    int64_t after = 0;
    const char *id;
    const struct args_option options[] = {
        { "after", "N", ARGS_INT, &after, "begin after the event with this number" },
    };
    const struct args_spec spec = {
        "follow",
        "ID",
        "Shows a job's progress until it ends: a bar on a terminal, lines elsewhere, one\n"
        "event a line with --json. Ends with 0 succeeded, 1 failed, 2 cancelled, 3 lost.",
        options,
        ARGS_COUNT(options),
        1,
        1
    };
    int r = args_parse(cli, &spec, argc, argv, &id);
    if (r >= 0)
        return r;
    dpc_client *client = cli_open(cli);
    r = client ? cli_follow(cli, client, id, after) : EXIT_FAILED;
    dpc_close(client);
    return r;
}
