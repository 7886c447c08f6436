/* dpsgctl ledger verify: the chain and the totals of a database file, without a daemon. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "cli.h"
#include "ledger/ledger.h"
#include "store/store.h"

/* A state folder stands for the database in it. */
static int database_path(const char *given, char path[PATH_MAX])
{
    struct stat st;
    if (stat(given, &st) < 0) {
        fprintf(stderr, "dpsgctl ledger verify: %s: %s\n", given, strerror(errno));
        return -1;
    }
    int n = snprintf(path, PATH_MAX, "%s%s", given, S_ISDIR(st.st_mode) ? "/dpsgd.db" : "");
    return n > 0 && n < PATH_MAX ? 0 : -1;
}

struct tip {
    const char *wanted; /* NULL: nothing is looked for */
    int64_t seq, found;
    char sha[65];
};

static int see_row(void *arg, const struct ledger_row *row)
{
    struct tip *tip = arg;
    tip->seq = row->seq;
    snprintf(tip->sha, sizeof tip->sha, "%s", row->sha256);
    if (tip->wanted && strcmp(tip->wanted, row->sha256) == 0)
        tip->found = row->seq;
    return 0;
}

/* The last row; all rows when one of them is looked for. */
static int read_tip(struct store *store, int64_t n_rows, struct tip *tip)
{
    struct problem p;
    problem_init(&p);
    bool more = n_rows > 0;
    int r = 0;
    tip->seq = tip->wanted || n_rows == 0 ? 0 : n_rows - 1;
    while (more && r == 0)
        r = ledger_rows(store, NULL, tip->seq, 1000, see_row, tip, &more, &p);
    return r;
}

static int print_verdict(const struct cli *cli, const char *path, int r, int64_t n_rows,
                         const char *why, const struct tip *tip)
{
    if (cli->json) {
        printf("{\"ok\": %s, \"rows\": %lld", r ? "false" : "true", (long long)n_rows);
        if (tip->sha[0])
            printf(", \"sha256\": \"%s\"", tip->sha);
        if (r) /* sentences of ours: nothing to escape */
            printf(", \"row\": %lld, \"error\": \"%s\"", (long long)n_rows, why);
        printf("}\n");
    } else if (r) {
        fprintf(stderr, "dpsgctl ledger verify: %s: %s\n", path, why);
    } else {
        printf("%lld rows hold, the last one is %s\n", (long long)n_rows,
               tip->sha[0] ? tip->sha : "none");
    }
    return r ? EXIT_FAILED : EXIT_SUCCEEDED;
}

int command_ledger_verify(struct cli *cli, int argc, char **argv)
{
    const char *given;
    struct tip tip = { 0 };
    const struct args_option options[] = {
        { "holds", "SHA256", ARGS_TEXT, &tip.wanted,
          "a row that was seen earlier: it must still be there" },
    };
    const struct args_spec spec = {
        "ledger verify",
        "FILE",
        "Checks a ledger without a daemon: FILE is its database, or the state folder. Every hash,\n"
        "the order of events, and every total, derived again from sample rates, noise and steps.\n"
        "Names the first bad row.",
        options,
        ARGS_COUNT(options),
        1,
        1
    };
    char path[PATH_MAX], text[512] = "";
    _cleanup_(store_closep) struct store *store = NULL;
    int64_t n_rows = 0;
    int r = args_parse(cli, &spec, argc, argv, &given);
    if (r >= 0)
        return r;
    if (database_path(given, path))
        return EXIT_FAILED;
    r = store_open_reading(&store, env_system(), path, text, sizeof text);
    if (r) {
        fprintf(stderr, "dpsgctl ledger verify: %s\n", text);
        return EXIT_FAILED;
    }
    r = ledger_verify(store, &n_rows, text, sizeof text);
    if (r == 0)
        r = read_tip(store, n_rows, &tip);
    if (r && text[0] == '\0')
        snprintf(text, sizeof text, "the database cannot be read after row %lld: %s",
                 (long long)n_rows, error_name(r));
    if (r == 0 && tip.wanted && !tip.found) {
        r = ERROR_LEDGER;
        snprintf(text, sizeof text, "no row has the hash that was asked for");
    }
    return print_verdict(cli, path, r, n_rows, text, &tip);
}
