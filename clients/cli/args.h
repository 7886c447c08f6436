/* Command lines: options of one command and the ones every command has, and --help. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARGS_LIST_MAX 64

enum {
    EXIT_SUCCEEDED = 0, /* also: a command that is not about one job worked */
    EXIT_FAILED = 1,    /* the job failed, or the request was refused */
    EXIT_CANCELLED = 2,
    EXIT_LOST = 3, /* the daemon cannot be reached, or was lost while following */
    EXIT_USAGE = 64
};

/* what every command knows */
struct cli {
    const char *url, *socket, *token, *token_file, *ca_file;
    bool json;
};

struct args_list {
    size_t n;
    const char *values[ARGS_LIST_MAX];
};

enum args_kind { ARGS_FLAG, ARGS_TEXT, ARGS_LIST, ARGS_REAL, ARGS_INT };

struct args_option {
    const char *name;  /* without "--" */
    const char *value; /* name of its value in the help; NULL for a flag */
    enum args_kind kind;
    void *to; /* bool, const char *, struct args_list, double, int64_t */
    const char *help;
};

struct args_spec {
    const char *command;  /* "submit", "dataset add" */
    const char *operands; /* "FILE", "" */
    const char *about;    /* a sentence or two */
    const struct args_option *options;
    size_t n_options;
    size_t min_operands, max_operands;
};

/* Reads argv[0..argc) into the options' targets and operands[max_operands]. Returns -1 to
 * go on, otherwise the exit status: help was asked for, or something is wrong and was said.
 */
int args_parse(struct cli *cli, const struct args_spec *spec, int argc, char **argv,
               const char **operands);

#define ARGS_COUNT(a) (sizeof(a) / sizeof *(a))

#endif
