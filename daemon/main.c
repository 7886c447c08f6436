/* dpsgd: argv -> configuration -> daemon. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/log.h"
#include "daemon.h"

struct options {
    const char *file, *state_dir, *listen;
    bool check, print;
};

static const char usage[] =
    "Usage: dpsgd [--config FILE] [--state-dir DIR] [--listen ADDR:PORT]\n"
    "  --config FILE        configuration; FILE.d/*.conf are read after it\n"
    "  --state-dir DIR      instead of [State] Dir=\n"
    "  --listen ADDR:PORT   instead of [Server] Listen=; port 0 takes any free port\n"
    "  --check-config       say whether the configuration is good, then leave\n"
    "  --print-config       print every key with its value and origin, then leave\n"
    "  --version, --help\n";

/* 0 to go on, otherwise the exit status plus one. */
static int parse_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        { "config", required_argument, NULL, 'c' },
        { "state-dir", required_argument, NULL, 's' },
        { "listen", required_argument, NULL, 'l' },
        { "check-config", no_argument, NULL, 'k' },
        { "print-config", no_argument, NULL, 'p' },
        { "version", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'c':
            options->file = optarg;
            break;
        case 's':
            options->state_dir = optarg;
            break;
        case 'l':
            options->listen = optarg;
            break;
        case 'k':
            options->check = true;
            break;
        case 'p':
            options->print = true;
            break;
        case 'v':
            printf("dpsgd %s\n", DPSGD_VERSION);
            return EXIT_SUCCESS + 1;
        case 'h':
            fputs(usage, stdout);
            return EXIT_SUCCESS + 1;
        default:
            fputs(usage, stderr);
            return 2 + 1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "dpsgd: unexpected argument \"%s\"\n%s", argv[optind], usage);
        return 2 + 1;
    }
    return 0;
}

static int apply_options(struct config *config, void *arg, struct config_error *err)
{
    const struct options *options = arg;
    int r = 0;
    if (options->state_dir != NULL)
        r = config_set(config, CONFIG_KEY_state_dir, options->state_dir, "--state-dir", err);
    if (r == 0 && options->listen != NULL)
        r = config_set(config, CONFIG_KEY_listen, options->listen, "--listen", err);
    return r;
}

int main(int argc, char **argv)
{
    struct options options = { 0 };
    struct config_error err = { "", "" };
    struct log log;
    int r = parse_options(argc, argv, &options);
    if (r != 0)
        return r - 1;
    struct config *config = config_alloc();
    if (config == NULL)
        return EXIT_FAILURE;
    if (config_load(config, options.file, &err) != 0 ||
        apply_options(config, &options, &err) != 0 || config_check(config, &err) != 0) {
        fprintf(stderr, "dpsgd: %s: %s\n", err.place, err.text);
        config_free(config);
        return EXIT_FAILURE;
    }
    if (options.print)
        config_print(config, stdout);
    if (options.check && !options.print)
        printf("the configuration is good\n");
    if (options.print || options.check) {
        config_free(config);
        return EXIT_SUCCESS;
    }
    log_init(&log, STDERR_FILENO, (enum log_level)config_log_level(config));
    struct daemon_source source = { options.file, apply_options, &options };
    return daemon_run(config, &source, &log);
}
