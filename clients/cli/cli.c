#include "cli.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

#define TOKEN_MAX 4096

void cli_put(const char *text)
{
    for (; text && *text; text++)
        putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

/* Up to max + 1 bytes, and room for one more; memory grows with what is there. */
static char *read_all(FILE *file, size_t max, size_t *np)
{
    size_t room = max < 65536 ? max + 2 : 65536, n = 0;
    char *text = malloc(room);
    while (text) {
        n += fread(text + n, 1, room - 1 - n, file);
        if (n < room - 1 || n > max)
            break;
        room = room > max / 2 ? max + 2 : 2 * room;
        char *grown = realloc(text, room);
        if (!grown)
            free(text);
        text = grown;
    }
    *np = n;
    return text;
}

char *cli_read_file(const char *path, size_t max, size_t *lenp)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "dpsgctl: %s: %s\n", path, strerror(errno));
        return NULL;
    }
    size_t n = 0;
    char *text = read_all(file, max, &n);
    bool failed = !text || ferror(file);
    if (file != stdin)
        fclose(file);
    if (failed || n > max) {
        fprintf(stderr, "dpsgctl: %s: %s\n", path,
                failed ? "cannot be read" : "the file is too large");
        free(text);
        return NULL;
    }
    text[n] = '\0';
    *lenp = n;
    return text;
}

dpc_client *cli_open(const struct cli *cli)
{
    struct dpc_options options = { .url = cli->url,
                                   .unix_socket = cli->socket,
                                   .token = cli->token,
                                   .ca_file = cli->ca_file };
    struct dpc_error err;
    dpc_client *client;
    char *token = NULL;
    if (!cli->token && cli->token_file) {
        size_t n;
        token = cli_read_file(cli->token_file, TOKEN_MAX, &n);
        if (!token)
            return NULL;
        token[strcspn(token, " \t\r\n")] = '\0';
        options.token = token;
    }
    if (dpc_open(&client, &options, &err))
        fprintf(stderr, "dpsgctl: %s\n", err.text);
    free(token);
    return client;
}

static void put_error(const char *text)
{
    for (; *text; text++)
        fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, stderr);
}

int cli_fail(const struct dpc_error *err)
{
    fprintf(stderr, "dpsgctl: ");
    put_error(err->text);
    fputc('\n', stderr);
    for (size_t i = 0; i < err->n_details; i++) {
        const struct dpc_detail *detail = &err->details[i];
        fprintf(stderr, "  ");
        put_error(detail->pointer[0] ? detail->pointer : "(the whole body)");
        fprintf(stderr, ": ");
        put_error(detail->message);
        fprintf(stderr, " [");
        put_error(detail->code);
        fprintf(stderr, "]\n");
    }
    if (!isnan(err->available_epsilon))
        fprintf(stderr, "  available epsilon: %.4g\n", err->available_epsilon);
    if (err->max_steps_that_fit >= 0)
        fprintf(stderr, "  steps that would still fit: %lld\n",
                (long long)err->max_steps_that_fit);
    if (err->http_status == 401)
        fprintf(stderr, "  give a token with --token, DPSGD_TOKEN or DPSGD_TOKEN_FILE\n");
    if (err->request_id[0]) {
        fprintf(stderr, "  request ");
        put_error(err->request_id);
        fputc('\n', stderr);
    }
    return err->status == DPC_E_CONNECT || err->status == DPC_E_LOST ? EXIT_LOST
                                                                     : EXIT_FAILED;
}

void cli_print_json(const struct cli *cli, struct dpc_text *text)
{
    json_t *root = cli->json ? NULL : json_loadb(text->text, text->len, 0, NULL);
    /* JSON of the daemon's has its control characters escaped; of anybody else's too */
    char *pretty = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    puts(pretty ? pretty : text->text);
    free(pretty);
    json_decref(root);
    dpc_text_free(text);
}

static void put_row(const char *name, const char *value)
{
    if (!value || !value[0])
        return;
    printf("%-14s ", name);
    cli_put(value);
    putchar('\n');
}

static void put_time(const char *name, int64_t ms)
{
    char buf[PROTO_TIME_MAX];
    if (ms >= 0)
        put_row(name, proto_time_text(ms, buf));
}

static void put_real(const char *name, double value)
{
    char buf[32];
    snprintf(buf, sizeof buf, "%.6g", value);
    if (!isnan(value))
        put_row(name, buf);
}

int cli_print_job(const struct cli *cli, const struct dpc_job *job)
{
    char buf[64];
    if (cli->json) {
        puts(job->json);
        return EXIT_SUCCEEDED;
    }
    put_row("id", job->id);
    put_row("name", job->name);
    put_row("owner", job->owner);
    put_row("dataset", job->dataset);
    put_row("status", job->status_text);
    put_row("reason", job->reason);
    put_row("detail", job->detail);
    snprintf(buf, sizeof buf, "%lld", (long long)job->attempt);
    put_row("attempt", job->attempt > 0 ? buf : NULL);
    snprintf(buf, sizeof buf, "%lld", (long long)job->queue_position);
    put_row("queue position", job->queue_position > 0 ? buf : NULL);
    snprintf(buf, sizeof buf, "%lld of %lld", (long long)job->step, (long long)job->of);
    put_row("step", job->step >= 0 ? buf : NULL);
    put_real("loss", job->loss);
    put_real("clip fraction", job->clip_fraction);
    put_real("eval loss", job->eval_loss);
    put_real("eval accuracy", job->eval_accuracy);
    put_real("epsilon", job->epsilon);
    put_real("delta", job->delta);
    put_real("noise", job->noise_multiplier);
    put_real("sample rate", job->sample_rate);
    put_time("created", job->created_at);
    put_time("started", job->started_at);
    put_time("finished", job->finished_at);
    return EXIT_SUCCEEDED;
}
