/* What the commands of dpsgctl share. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "args.h"
#include "dpsgd/client.h"

typedef int (*command_fn)(struct cli *cli, int argc, char **argv);

int command_submit(struct cli *cli, int argc, char **argv);
int command_follow(struct cli *cli, int argc, char **argv);
int command_list(struct cli *cli, int argc, char **argv);
int command_show(struct cli *cli, int argc, char **argv);
int command_cancel(struct cli *cli, int argc, char **argv);
int command_delete(struct cli *cli, int argc, char **argv);
int command_weights(struct cli *cli, int argc, char **argv);
int command_artifact_list(struct cli *cli, int argc, char **argv);
int command_artifact_download(struct cli *cli, int argc, char **argv);
int command_dataset_add(struct cli *cli, int argc, char **argv);
int command_dataset_list(struct cli *cli, int argc, char **argv);
int command_dataset_show(struct cli *cli, int argc, char **argv);
int command_budget_show(struct cli *cli, int argc, char **argv);
int command_ledger_show(struct cli *cli, int argc, char **argv);
int command_ledger_import(struct cli *cli, int argc, char **argv);
int command_ledger_raise(struct cli *cli, int argc, char **argv);
int command_ledger_freeze(struct cli *cli, int argc, char **argv);
int command_ledger_unfreeze(struct cli *cli, int argc, char **argv);
int command_ledger_verify(struct cli *cli, int argc, char **argv);
int command_token_create(struct cli *cli, int argc, char **argv);
int command_token_list(struct cli *cli, int argc, char **argv);
int command_token_delete(struct cli *cli, int argc, char **argv);
int command_queue(struct cli *cli, int argc, char **argv);
int command_devices(struct cli *cli, int argc, char **argv);
int command_whoami(struct cli *cli, int argc, char **argv);
int command_version(struct cli *cli, int argc, char **argv);
int command_model_check(struct cli *cli, int argc, char **argv);
int command_model_fix(struct cli *cli, int argc, char **argv);
int command_privacy_epsilon(struct cli *cli, int argc, char **argv);
int command_privacy_delta(struct cli *cli, int argc, char **argv);
int command_privacy_noise_multiplier(struct cli *cli, int argc, char **argv);
int command_privacy_steps(struct cli *cli, int argc, char **argv);
int command_privacy_curve(struct cli *cli, int argc, char **argv);

/* Connects as the options and the environment say. NULL: it was said why. */
dpc_client *cli_open(const struct cli *cli);

/* Says what went wrong, with its places; returns the exit status for it. */
int cli_fail(const struct dpc_error *err);

/* A whole file, or standard input for "-", of at most max bytes; NUL-terminated, to be
 * freed. NULL: it was said why. */
char *cli_read_file(const char *path, size_t max, size_t *lenp);

/* JSON text: as it is with --json, otherwise indented. Frees the text. */
void cli_print_json(const struct cli *cli, struct dpc_text *text);

/* Text that came over the wire, with control characters replaced: a terminal must not obey.
 */
void cli_put(const char *text);

/* Prints one job; returns EXIT_SUCCEEDED. */
int cli_print_job(const struct cli *cli, const struct dpc_job *job);

/* Follows a job to its end on standard output; the exit status. */
int cli_follow(const struct cli *cli, dpc_client *client, const char *id, int64_t after);

#endif
