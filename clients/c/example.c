/* Submits a job spec, prints its loss and epsilon while it trains, fetches the weights.
 * cc example.c $(pkg-config --cflags --libs dpsgd-client) && ./a.out job.json */
#include <dpsgd/client.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int on_event(const struct dpc_event *event, void *user)
{
    (void)user;
    if (strcmp(event->type, "step") == 0)
        printf("step %lld of %lld: loss %.4f, clipped %.0f%%, epsilon %.3f\n",
               (long long)event->step, (long long)event->of, event->loss,
               100 * event->clip_fraction, event->epsilon);
    else if (strcmp(event->type, "eval") == 0)
        printf("step %lld: accuracy %.3f\n", (long long)event->step, event->accuracy);
    return 0;
}

static int give_up(const struct dpc_error *err)
{
    fprintf(stderr, "%s\n", err->text);
    for (size_t i = 0; i < err->n_details; i++)
        fprintf(stderr, "  %s: %s\n", err->details[i].pointer, err->details[i].message);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static char spec[1 << 20];
    static struct dpc_error err;
    FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!file)
        return fprintf(stderr, "usage: example job.json\n"), EXIT_FAILURE;
    size_t len = fread(spec, 1, sizeof spec, file);
    fclose(file);

    dpc_client *client;
    struct dpc_job *job = NULL;
    enum dpc_job_status status = DPC_JOB_UNKNOWN;
    struct dpc_options options = { .url = getenv("DPSGD_URL"),
                                   .token = getenv("DPSGD_TOKEN") };
    int r = dpc_open(&client, &options, &err);
    if (r == DPC_OK)
        r = dpc_submit(client, spec, len, NULL, &job, &err);
    if (r == DPC_OK)
        r = dpc_follow(client, job->id, 0, on_event, NULL, &status, &err);
    if (r == DPC_OK && status == DPC_JOB_SUCCEEDED)
        r = dpc_download(client, job->id, "model.safetensors", "model.safetensors", &err);
    int code = r != DPC_OK ? give_up(&err) : status == DPC_JOB_SUCCEEDED ? 0 : EXIT_FAILURE;
    dpc_job_free(job);
    dpc_close(client);
    return code;
}
