#include "args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

/* filled with the addresses in *cli: the options every command has */
#define COMMON_OPTIONS 6

static void common_options(struct cli *cli, struct args_option options[COMMON_OPTIONS])
{
    const struct args_option all[COMMON_OPTIONS] = {
        { "url", "URL", ARGS_TEXT, &cli->url, "where the daemon is (DPSGD_URL)" },
        { "socket", "PATH", ARGS_TEXT, &cli->socket,
          "the daemon's Unix socket (DPSGD_SOCKET)" },
        { "token", "TEXT", ARGS_TEXT, &cli->token, "bearer token (DPSGD_TOKEN)" },
        { "token-file", "PATH", ARGS_TEXT, &cli->token_file,
          "file with the token (DPSGD_TOKEN_FILE)" },
        { "ca-file", "PATH", ARGS_TEXT, &cli->ca_file, "certificates to trust" },
        { "json", NULL, ARGS_FLAG, &cli->json, "print JSON" },
    };
    memcpy(options, all, sizeof all);
}

static void print_options(const char *title, const struct args_option *options, size_t n)
{
    if (n)
        printf("\n%s\n", title);
    for (size_t i = 0; i < n; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", options[i].name,
                 options[i].value ? " " : "", options[i].value ? options[i].value : "");
        printf("  %-28s %s\n", left, options[i].help);
    }
}

static void print_help(const struct args_spec *spec, const struct args_option *common)
{
    printf("usage: dpsgctl %s%s%s%s\n\n%s\n", spec->command, spec->operands[0] ? " " : "",
           spec->operands, spec->n_options ? " [OPTION]..." : "", spec->about);
    print_options("options:", spec->options, spec->n_options);
    print_options("options of every command:", common, COMMON_OPTIONS);
}

static int fail_usage(const struct args_spec *spec, const char *what, const char *which)
{
    fprintf(stderr, "dpsgctl %s: %s%s%s (see dpsgctl %s --help)\n", spec->command, what,
            which[0] ? ": " : "", which, spec->command);
    return EXIT_USAGE;
}

static int parse_int(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end)
        return -1;
    *out = value;
    return 0;
}

static int store_value(const struct args_option *option, const char *value)
{
    struct args_list *list = option->to;
    switch (option->kind) {
    case ARGS_FLAG: *(bool *)option->to = true; return 0;
    case ARGS_TEXT: *(const char **)option->to = value; return 0;
    case ARGS_REAL: return proto_real_parse(value, strlen(value), option->to);
    case ARGS_INT: return parse_int(value, option->to);
    case ARGS_LIST: break;
    }
    if (list->n == ARGS_LIST_MAX)
        return -1;
    list->values[list->n++] = value;
    return 0;
}

/* "name" or "name=value" among n options */
static const struct args_option *find_option(const struct args_option *options, size_t n,
                                             const char *text, size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(options[i].name) == len && strncmp(options[i].name, text, len) == 0)
            return &options[i];
    return NULL;
}

/* argv[*i] is "--something"; -1 to go on */
static int parse_option(const struct args_spec *spec, const struct args_option *common,
                        int argc, char **argv, int *i)
{
    const char *text = argv[*i] + 2;
    size_t len = strcspn(text, "=");
    const struct args_option *option =
        find_option(spec->options, spec->n_options, text, len);
    if (!option)
        option = find_option(common, COMMON_OPTIONS, text, len);
    if (!option)
        return fail_usage(spec, "unknown option", argv[*i]);
    const char *value = text[len] == '=' ? text + len + 1 : NULL;
    if (option->kind == ARGS_FLAG && value)
        return fail_usage(spec, "takes no value", argv[*i]);
    if (option->kind != ARGS_FLAG && !value) {
        if (*i + 1 == argc)
            return fail_usage(spec, "needs a value", argv[*i]);
        value = argv[++*i];
    }
    if (store_value(option, value))
        return fail_usage(spec, "cannot use this value", value);
    return -1;
}

int args_parse(struct cli *cli, const struct args_spec *spec, int argc, char **argv,
               const char **operands)
{
    struct args_option common[COMMON_OPTIONS];
    size_t n = 0;
    bool only_operands = false;
    common_options(cli, common);
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (!only_operands && strcmp(arg, "--") == 0) {
            only_operands = true;
        } else if (!only_operands &&
                   (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)) {
            print_help(spec, common);
            return EXIT_SUCCEEDED;
        } else if (!only_operands && strncmp(arg, "--", 2) == 0) {
            int r = parse_option(spec, common, argc, argv, &i);
            if (r >= 0)
                return r;
        } else if (!only_operands && arg[0] == '-' && arg[1]) {
            return fail_usage(spec, "unknown option", arg);
        } else if (n == spec->max_operands) {
            return fail_usage(spec, "one argument too many", arg);
        } else {
            operands[n++] = arg;
        }
    }
    for (size_t i = n; i < spec->max_operands; i++)
        operands[i] = NULL;
    if (n < spec->min_operands)
        return fail_usage(spec, "needs", spec->operands);
    return -1;
}
