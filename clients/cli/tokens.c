/* dpsgctl token: for administrators */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "proto/text.h"
#include "proto/token.h"

/* sends a request, prints its answer */
static int request(const struct cli *cli, const char *method, const char *path,
                   const char *body, size_t len)
{
    struct dpc_error err;
    struct dpc_text answer;
    dpc_client *client = cli_open(cli);
    if (!client)
        return EXIT_FAILED;
    int r = EXIT_SUCCEEDED;
    if (dpc_request(client, method, path, body, len, &answer, &err))
        r = cli_fail(&err);
    else if (answer.len)
        cli_print_json(cli, &answer);
    else
        dpc_text_free(&answer);
    dpc_close(client);
    return r;
}

int command_token_create(struct cli *cli, int argc, char **argv)
{
    const char *operands[2], *expires = NULL;
    const struct args_option options[] = {
        { "expires-in", "TIME", ARGS_TEXT, &expires, "12h, 90d; without it: never" },
    };
    const struct args_spec spec = {
        "token create",
        "OWNER ROLE",
        "Makes a bearer token and prints it, once. ROLE is viewer, "
        "submitter,\ncustodian, admin or metrics.",
        options,
        ARGS_COUNT(options),
        2,
        2
    };
    int r = args_parse(cli, &spec, argc, argv, operands);
    if (r >= 0)
        return r;
    struct token_spec token = { .owner = operands[0],
                                .role = user_role_parse(operands[1]),
                                .expires_in = NAN };
    if (!token.role || (expires && proto_duration_parse(expires, &token.expires_in))) {
        fprintf(stderr,
                "dpsgctl token create: no such %s (see dpsgctl token create --help)\n",
                token.role ? "time" : "role");
        return EXIT_USAGE;
    }
    size_t len;
    char *body = token_spec_encode(&token, &len);
    r = body ? request(cli, "POST", "/tokens", body, len) : EXIT_FAILED;
    free(body);
    return r;
}

int command_token_list(struct cli *cli, int argc, char **argv)
{
    const struct args_spec spec = {
        "token list", "", "Lists the tokens, without their texts.", NULL, 0, 0, 0
    };
    int r = args_parse(cli, &spec, argc, argv, NULL);
    return r >= 0 ? r : request(cli, "GET", "/tokens", NULL, 0);
}

int command_token_delete(struct cli *cli, int argc, char **argv)
{
    const char *id;
    char path[256];
    const struct args_spec spec = {
        "token delete", "ID", "Revokes a token at once.", NULL, 0, 1, 1
    };
    int r = args_parse(cli, &spec, argc, argv, &id);
    if (r >= 0)
        return r;
    size_t n =
        strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
    if (n == 0 || n > 64 || id[n]) {
        fprintf(stderr,
                "dpsgctl token delete: that is not the id of a token (see dpsgctl token "
                "list --help)\n");
        return EXIT_USAGE;
    }
    snprintf(path, sizeof path, "/tokens/%s", id);
    return request(cli, "DELETE", path, NULL, 0);
}
