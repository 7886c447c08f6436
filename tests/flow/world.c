#include "world.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/loop.h"

static void on_fatal(void *arg, int r)
{
    struct world *w = arg;
    w->fatal = r;
}

static bool open_modules(struct world *w, int max_running)
{
    char text[256], path[256];
    struct datasets_config data = { .root_dir = w->state_dir };
    struct jobs_config config = { .cores = 2, .max_running = max_running };
    snprintf(path, sizeof path, "%s/dpsgd.db", w->path);
    if (store_open(&w->store, w->env, path, text, sizeof text))
        return false;
    w->store_loop = store_attach(w->store, &w->loop, on_fatal, w);
    w->stream = stream_new(w->store);
    return w->store_loop && w->stream &&
           datasets_open(&w->datasets, w->store, &data, text, sizeof text) == 0 &&
           jobs_open(&w->jobs, w->store, w->stream, w->datasets, w->state_dir, &config, NULL,
                     text, sizeof text) == 0 &&
           jobs_start(w->jobs, &w->loop, on_fatal, w) == 0;
}

bool world_open(struct world *w, const char *path, const struct env *env, int max_running)
{
    *w = (struct world){ .env = env };
    snprintf(w->path, sizeof w->path, "%s", path);
    uv_loop_init(&w->loop);
    w->state_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(w->state_dir, 0);
    return open_modules(w, max_running);
}

void world_close(struct world *w)
{
    w->jobs = jobs_close(w->jobs);
    w->datasets = datasets_close(w->datasets);
    w->stream = stream_free(w->stream);
    store_detach(w->store_loop);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    w->store = store_close(w->store);
    ck_assert_int_eq(uv_loop_close(&w->loop), 0);
    close(w->state_dir);
}

/* ---- reading ---- */

enum job_status world_status(struct world *w, const char *id)
{
    struct answer answer;
    struct problem p;
    struct job_view *view = NULL;
    if (jobs_get(w->jobs, id, NULL, &answer, &p))
        return 0;
    ck_assert_int_eq(job_view_decode(&view, answer.text, answer.size, &p), 0);
    enum job_status status = view->status;
    job_view_free(view);
    answer_clear(&answer);
    return status;
}

static bool see_step(void *arg, const struct stream_event *e)
{
    struct event *event = NULL;
    struct problem p;
    ck_assert_int_eq(event_decode(&event, e->data, e->size, &p), 0);
    if (event->type == EVENT_STEP)
        *(int64_t *)arg = event->step.step;
    event_free(event);
    return true;
}

int64_t world_steps(struct world *w, const char *id)
{
    int64_t step = 0;
    stream_read(w->stream, id, 0, 1000000, see_step, &step);
    return step;
}

static bool see_number(void *arg, const struct stream_event *e)
{
    uint64_t *last = arg;
    ck_assert_uint_eq(e->seq, *last + 1);
    *last = e->seq;
    return true;
}

int world_check_events(struct world *w, const char *id)
{
    uint64_t last = 0;
    return stream_read(w->stream, id, 0, 1000000, see_number, &last);
}

struct counting {
    const char *part;
    int n;
};

static bool see_part(void *arg, const struct stream_event *e)
{
    struct counting *counting = arg;
    counting->n += strstr(e->data, counting->part) != NULL;
    return true;
}

int world_count_events(struct world *w, const char *id, const char *part)
{
    struct counting counting = { part, 0 };
    stream_read(w->stream, id, 0, 1000000, see_part, &counting);
    return counting.n;
}

char *world_model(struct world *w, const char *id, size_t *np)
{
    struct jobs_file file;
    struct problem p;
    uint64_t header = 0;
    ck_assert_int_eq(jobs_artifact_open(w->jobs, id, NULL, "model.safetensors", &file, &p), 0);
    ck_assert_int_eq(read(file.fd, &header, sizeof header), sizeof header);
    ck_assert_uint_lt(header + 8, file.size);
    *np = (size_t)(file.size - 8 - header);
    char *data = malloc(*np);
    ck_assert_int_eq(pread(file.fd, data, *np, (off_t)(8 + header)), (ssize_t)*np);
    close(file.fd);
    return data;
}

/* ---- doing ---- */

int world_add_digits(struct world *w, const char *name)
{
    char text[256];
    struct dataset_spec *spec = NULL;
    struct problem p;
    bool created;
    snprintf(text, sizeof text,
             "{\"name\": \"%s\", \"format\": \"embedded\", \"public\": true,"
             " \"budget\": {\"epsilon\": 8, \"delta\": 1e-5}}",
             name);
    ck_assert_int_eq(dataset_spec_decode(&spec, text, strlen(text), &p), 0);
    int r = datasets_register(w->datasets, spec, "root", NULL, &created, &p);
    dataset_spec_free(spec);
    return r ? r : store_commit(w->store);
}

static void put_csv(const struct world *w, const char *name, int n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", w->path, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    for (int i = 0; i < n; i++)
        fprintf(f, "%d,%d,%d\n", i, 3 * i % 7, i % 2);
    fclose(f);
}

void world_add_files(struct world *w, const char *text)
{
    struct dataset_spec *spec = NULL;
    struct problem p;
    bool created;
    put_csv(w, "a.csv", 40);
    put_csv(w, "b.csv", 10);
    int r = dataset_spec_decode(&spec, text, strlen(text), &p);
    if (r == 0)
        r = datasets_register(w->datasets, spec, "root", NULL, &created, &p);
    ck_assert_msg(r == 0, "%s %s %s", p.title, p.errors[0].pointer, p.errors[0].message);
    dataset_spec_free(spec);
    ck_assert_int_eq(store_commit(w->store), 0);
}

int world_submit(struct world *w, const char *text, const char *key, char *id,
                 struct problem *p)
{
    struct jobs_submit submit = { .owner = "ada", .key = key };
    struct job_spec *spec = NULL;
    struct answer answer = { 0 };
    ck_assert_int_eq(job_spec_decode(&spec, text, strlen(text), p), 0);
    memset(submit.fingerprint, (int)strlen(text) & 255, sizeof submit.fingerprint);
    submit.spec = spec;
    int r = jobs_submit(w->jobs, &submit, &answer, p);
    memcpy(id, submit.id, sizeof submit.id);
    job_spec_free(spec);
    answer_clear(&answer);
    return r;
}

bool world_run_steps(struct world *w, const char *id, int64_t steps)
{
    while (!w->fatal) {
        enum job_status status = world_status(w, id);
        if (status && job_status_terminal(status))
            return true;
        if (world_steps(w, id) >= steps)
            return true;
        uv_run(&w->loop, UV_RUN_ONCE);
    }
    return false;
}

bool world_run(struct world *w, const char *id)
{
    return world_run_steps(w, id, INT64_MAX);
}

static void on_drained(void *arg)
{
    struct world *w = arg;
    w->drained = true;
}

void world_drain(struct world *w)
{
    jobs_drain(w->jobs, on_drained, w);
    while (!w->drained && !w->fatal)
        uv_run(&w->loop, UV_RUN_ONCE);
}
