/* dpsgctl: the command line of the dpsgd training service. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const struct command {
    const char *name;  /* one or two words */
    const char *about; /* in the list of commands */
    command_fn run;
} commands[] = {
    { "submit", "send a job", command_submit },
    { "follow", "watch a job until it ends", command_follow },
    { "list", "list jobs", command_list },
    { "show", "show one job", command_show },
    { "cancel", "cancel a job", command_cancel },
    { "delete", "delete a finished job", command_delete },
    { "weights", "download a job's model", command_weights },
    { "artifact list", "list what a job left behind", command_artifact_list },
    { "artifact download", "download one artifact", command_artifact_download },
    { "dataset add", "register a dataset", command_dataset_add },
    { "dataset list", "list datasets", command_dataset_list },
    { "dataset show", "show one dataset", command_dataset_show },
    { "budget show", "show a dataset's privacy budget", command_budget_show },
    { "ledger show", "show the rows of a dataset's ledger", command_ledger_show },
    { "ledger import", "count what was released elsewhere", command_ledger_import },
    { "ledger raise", "raise a dataset's cap", command_ledger_raise },
    { "ledger freeze", "refuse new jobs on a dataset", command_ledger_freeze },
    { "ledger unfreeze", "admit jobs on a dataset again", command_ledger_unfreeze },
    { "ledger verify", "check a ledger's file (no daemon needed)", command_ledger_verify },
    { "token create", "make a token", command_token_create },
    { "token list", "list the tokens", command_token_list },
    { "token delete", "revoke a token", command_token_delete },
    { "queue", "show the queue", command_queue },
    { "devices", "show the devices", command_devices },
    { "whoami", "show who the token says you are", command_whoami },
    { "version", "show the daemon's version", command_version },
    { "model check", "what stands in the way of training a model (no daemon needed)",
      command_model_check },
    { "model fix", "replace layers that mix samples (no daemon needed)", command_model_fix },
    { "privacy epsilon", "epsilon of DP-SGD steps (no daemon needed)",
      command_privacy_epsilon },
    { "privacy delta", "delta of DP-SGD steps (no daemon needed)", command_privacy_delta },
    { "privacy noise-multiplier", "noise for a target epsilon (no daemon needed)",
      command_privacy_noise_multiplier },
    { "privacy steps", "steps that fit a target epsilon (no daemon needed)",
      command_privacy_steps },
    { "privacy curve", "epsilon against steps or delta, drawn (no daemon needed)",
      command_privacy_curve },
};

#define N_COMMANDS (sizeof commands / sizeof *commands)

static int help(FILE *out)
{
    fprintf(out, "usage: dpsgctl COMMAND [ARGUMENT]... [OPTION]...\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-26s %s\n", commands[i].name, commands[i].about);
    fprintf(out, "\ndpsgctl COMMAND --help tells more. The daemon's address and your token "
                 "come from\n"
                 "--url and --token, or DPSGD_URL and DPSGD_TOKEN (or DPSGD_TOKEN_FILE).\n"
                 "Exit status: 0 succeeded, 1 failed, 2 cancelled, 3 daemon lost, 64 wrong "
                 "usage.\n");
    return out == stdout ? EXIT_SUCCEEDED : EXIT_USAGE;
}

/* how many words of argv make the command's name; 0: not this command */
static int name_words(const char *name, int argc, char **argv)
{
    size_t first = strcspn(name, " ");
    if (argc < 1 || strlen(argv[0]) != first || strncmp(argv[0], name, first) != 0)
        return 0;
    if (!name[first])
        return 1;
    return argc > 1 && strcmp(argv[1], name + first + 1) == 0 ? 2 : 0;
}

int main(int argc, char **argv)
{
    struct cli cli = { .url = getenv("DPSGD_URL"),
                       .socket = getenv("DPSGD_SOCKET"),
                       .token = getenv("DPSGD_TOKEN"),
                       .token_file = getenv("DPSGD_TOKEN_FILE") };
    if (argc < 2)
        return help(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return help(stdout);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        int words = name_words(commands[i].name, argc - 1, argv + 1);
        if (words)
            return commands[i].run(&cli, argc - 1 - words, argv + 1 + words);
    }
    fprintf(stderr, "dpsgctl: no command \"%s%s%s\" (see dpsgctl --help)\n", argv[1],
            argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
    return EXIT_USAGE;
}
