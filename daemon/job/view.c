#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "job/internal.h"
#include "ledger/ledger.h"
#include "proto/artifact.h"
#include "proto/server.h"

static int finish(struct answer *answer, char *text, size_t size, struct problem *p)
{
    if (!text)
        return error_nomem(p);
    *answer = (struct answer){ text, size };
    return 0;
}

/* ---- one job ---- */

/* the parts of a view that need a place of their own */
struct view_room {
    struct job_spec *spec;
    struct job_progress progress;
    struct job_metrics metrics;
    struct privacy_cost cost;
};

static int last_event(struct jobs *jobs, enum store_side side, const char *id, const char *sql,
                      struct event **eventp, struct problem *p)
{
    *eventp = NULL;
    sqlite3_stmt *stmt = store_prepare(jobs->store, side, sql);
    if (!stmt)
        return store_prepare_error(jobs->store, p);
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt), r = store_result(jobs->store, rc, p);
    if (rc == SQLITE_ROW) {
        const char *data = (const char *)sqlite3_column_text(stmt, 0);
        struct problem why;
        int d = data ? event_decode(eventp, data, (size_t)sqlite3_column_bytes(stmt, 0), &why)
                     : PROTO_E_NOMEM;
        r = d == 0 ? 0 : d == PROTO_E_NOMEM ? error_nomem(p) : ERROR_CORRUPT;
    }
    store_done(stmt);
    return r;
}

static int last_events(struct jobs *jobs, enum store_side side, const char *id,
                       struct event **stepp, struct event **evalp, struct problem *p)
{
    int r = last_event(jobs, side, id,
                       "SELECT data FROM events WHERE job = ?1 AND type = 2"
                       " ORDER BY seq DESC LIMIT 1",
                       stepp, p);
    if (r == 0)
        r = last_event(jobs, side, id,
                       "SELECT data FROM events INDEXED BY events_eval WHERE job = ?1"
                       " AND type = 3 ORDER BY seq DESC LIMIT 1",
                       evalp, p);
    return r;
}

static void fill_metrics(const struct event *step, const struct event *eval,
                         struct job_view *view, struct view_room *room)
{
    if (step) {
        job_progress_init(&room->progress);
        room->progress.step = step->step.step;
        room->progress.of = step->step.of;
        room->progress.epoch = step->step.epoch;
        if (view->status == JOB_STATUS_RUNNING) {
            room->progress.examples_per_s = step->step.examples_per_s;
            room->progress.eta_s = step->step.eta_s;
        }
        view->progress = &room->progress;
    }
    if (!step && !eval)
        return;
    job_metrics_init(&room->metrics);
    if (step) {
        room->metrics.step = step->step.step;
        room->metrics.loss = step->step.loss;
        room->metrics.clip_fraction = step->step.clip_fraction;
        room->metrics.lr = step->step.lr;
        room->metrics.is_private = step->step.is_private;
    }
    if (eval) {
        room->metrics.eval_step = eval->eval.step;
        room->metrics.eval_loss = eval->eval.loss;
        room->metrics.eval_accuracy = eval->eval.accuracy;
    }
    view->metrics = &room->metrics;
}

static void fill_cost(const struct job_row *row, const struct event *step, struct job_view *view,
                      struct view_room *room)
{
    const struct privacy_spec *privacy = room->spec->privacy;
    if (!privacy)
        return;
    privacy_cost_init(&room->cost);
    room->cost.epsilon = step ? step->step.epsilon : 0;
    room->cost.steps = step ? step->step.step : 0;
    room->cost.delta = row->delta;
    room->cost.accountant = privacy->accountant;
    room->cost.noise_multiplier = row->noise_multiplier;
    room->cost.sample_rate = row->sample_rate;
    room->cost.poisson_sampling = privacy->poisson_sampling;
    room->cost.epsilon_at_end = row->epsilon_at_end;
    view->privacy = &room->cost;
}

static int view_fill(struct jobs *jobs, enum store_side side, const struct job_row *row,
                     bool with_spec, struct job_view *view, struct view_room *room,
                     struct problem *p)
{
    _cleanup_(event_freep) struct event *step = NULL, *eval = NULL;
    struct problem why;
    int d = job_spec_decode(&room->spec, row->spec, strlen(row->spec), &why);
    if (d)
        return d == PROTO_E_NOMEM ? error_nomem(p) : ERROR_CORRUPT;
    job_view_init(view);
    view->id = row->id;
    view->name = row->name;
    view->owner = row->owner;
    view->dataset = row->dataset;
    view->status = row->status;
    view->reason = row->reason;
    if (row->status == JOB_STATUS_FAILED)
        view->detail = job_reason_sentence(row->reason);
    view->attempt = row->attempt;
    view->queue_position =
        row->status == JOB_STATUS_QUEUED ? queue_position(jobs, row->id) : -1;
    view->created_at = row->created_at;
    view->status_since = row->status_since;
    view->started_at = row->started_at;
    view->finished_at = row->finished_at;
    view->device = (struct device_spec){ DEVICE_CPU, -1 };
    view->grad_sample_mode = room->spec->grad_sample_mode;
    view->spec = with_spec ? room->spec : NULL;
    int r = last_events(jobs, side, row->id, &step, &eval, p);
    fill_metrics(step, eval, view, room);
    fill_cost(row, step, view, room);
    return r;
}

int jobs_answer_row(struct jobs *jobs, enum store_side side, const struct job_row *row,
                    struct answer *answer, struct problem *p)
{
    struct job_view view;
    struct view_room room = { 0 };
    size_t size = 0;
    int r = view_fill(jobs, side, row, true, &view, &room, p);
    if (r == 0) {
        char *text = job_view_encode(&view, &size);
        r = finish(answer, text, size, p);
    }
    job_spec_free(room.spec);
    return r;
}

int jobs_get(struct jobs *jobs, const char *id, const char *viewer, struct answer *answer,
             struct problem *p)
{
    _cleanup_(job_row_clear) struct job_row row = { 0 };
    *answer = (struct answer){ 0 };
    int r = job_row_find(jobs->store, STORE_READER, id, viewer, &row, p);
    return r ? r : jobs_answer_row(jobs, STORE_READER, &row, answer, p);
}

/* ---- pages ---- */

enum { PAGE_MAX = 100 };

struct page {
    struct job_row row[PAGE_MAX];
    struct job_view view[PAGE_MAX];
    struct view_room room[PAGE_MAX];
    int n;
    bool more;
};

static void page_freep(struct page **pagep)
{
    for (int i = 0; *pagep && i < (*pagep)->n; i++) {
        job_row_clear(&(*pagep)->row[i]);
        job_spec_free((*pagep)->room[i].spec);
    }
    free(*pagep);
}

static void bind_optional(sqlite3_stmt *stmt, int i, const char *text)
{
    if (text)
        sqlite3_bind_text(stmt, i, text, -1, SQLITE_STATIC);
}

static int page_rows(struct jobs *jobs, const struct jobs_filter *filter, int status,
                     int64_t before, int limit, struct page *page, struct problem *p)
{
    sqlite3_stmt *stmt = store_prepare(
        jobs->store, STORE_READER,
        "SELECT " JOB_COLUMNS " FROM jobs WHERE num < ?1 AND (?2 = 0 OR status = ?2)"
        " AND (?3 IS NULL OR dataset = ?3) AND (?4 IS NULL OR owner = ?4)"
        " ORDER BY num DESC LIMIT ?5");
    if (!stmt)
        return store_prepare_error(jobs->store, p);
    sqlite3_bind_int64(stmt, 1, before);
    sqlite3_bind_int(stmt, 2, status);
    bind_optional(stmt, 3, filter->dataset);
    bind_optional(stmt, 4, filter->owner);
    sqlite3_bind_int(stmt, 5, limit + 1);
    int r = 0, rc = SQLITE_DONE;
    while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        page->more = page->n == limit;
        if (page->more)
            break;
        r = job_row_read(stmt, &page->row[page->n++], p);
    }
    if (r == 0)
        r = store_result(jobs->store, rc, p);
    store_done(stmt);
    return r;
}

int jobs_list(struct jobs *jobs, const struct jobs_filter *filter, struct answer *answer,
              struct problem *p)
{
    _cleanup_(page_freep) struct page *page = calloc(1, sizeof *page);
    int64_t before = INT64_MAX;
    int r = 0, status = 0;
    *answer = (struct answer){ 0 };
    if (!page)
        return error_nomem(p);
    if (filter->status && !(status = (int)job_status_parse(filter->status)))
        return error_refuse(p, PROBLEM_BAD_REQUEST, "no job status has this name");
    if (filter->after) {
        _cleanup_(job_row_clear) struct job_row row = { 0 };
        r = job_row_find(jobs->store, STORE_READER, filter->after, NULL, &row, p);
        if (r == ERROR_REFUSED && p->code == PROBLEM_NOT_FOUND)
            return error_refuse(p, PROBLEM_BAD_REQUEST, "after names no job");
        before = r ? 0 : row.num;
    }
    int limit = filter->limit < 1 ? 1 : filter->limit > PAGE_MAX ? PAGE_MAX : filter->limit;
    if (r == 0)
        r = page_rows(jobs, filter, status, before, limit, page, p);
    for (int i = 0; i < page->n && r == 0; i++)
        r = view_fill(jobs, STORE_READER, &page->row[i], false, &page->view[i], &page->room[i],
                      p);
    if (r)
        return r;
    struct job_page out = { (size_t)page->n, page->view, page->more };
    size_t size = 0;
    char *text = job_page_encode(&out, &size);
    return finish(answer, text, size, p);
}

/* ---- the line ---- */

static bool visible(const char *viewer, const char *owner)
{
    return !viewer || strcmp(viewer, owner) == 0;
}

int jobs_queue(struct jobs *jobs, const char *viewer, int limit, struct answer *answer,
               struct problem *p)
{
    _cleanup_free_ const struct waiting **line = queue_sorted(jobs);
    size_t cap = (size_t)(jobs->n_active + jobs->n_waiting), n = 0;
    if (limit >= 0 && cap > (size_t)limit)
        cap = (size_t)limit;
    _cleanup_free_ struct queue_entry *entry = calloc(cap + 1, sizeof *entry);
    *answer = (struct answer){ 0 };
    if (!line || !entry)
        return error_nomem(p);
    for (const struct active *a = jobs->active; a && n < cap; a = a->next)
        if (visible(viewer, a->row.owner))
            entry[n++] = (struct queue_entry){ .id = a->row.id,
                                               .owner = a->row.owner,
                                               .priority = a->row.priority,
                                               .queued_at = a->row.created_at };
    for (int64_t i = 0; i < jobs->n_waiting && n < cap; i++)
        if (visible(viewer, line[i]->owner))
            entry[n++] = (struct queue_entry){ .id = line[i]->id,
                                               .owner = line[i]->owner,
                                               .position = i + 1,
                                               .priority = line[i]->priority,
                                               .queued_at = line[i]->created_at };
    struct queue_view view = { jobs->n_active, jobs->n_waiting, n, entry };
    size_t size = 0;
    char *text = queue_view_encode(&view, &size);
    return finish(answer, text, size, p);
}

void jobs_count(struct jobs *jobs, struct jobs_counts *counts)
{
    *counts = (struct jobs_counts){ .steps = jobs->n_steps };
    sqlite3_stmt *stmt = store_prepare(jobs->store, STORE_READER,
                                       "SELECT status, count(*) FROM jobs GROUP BY status");
    while (stmt && sqlite3_step(stmt) == SQLITE_ROW) {
        int status = sqlite3_column_int(stmt, 0);
        if (status > 0 && status <= JOB_STATUS_CANCELLED)
            counts->by_status[status] = (uint64_t)sqlite3_column_int64(stmt, 1);
    }
    store_done(stmt);
    uint64_t now = jobs->env->monotonic_ns(jobs->env);
    for (const struct active *a = jobs->active; a; a = a->next)
        if (a->last_step_ns)
            counts->oldest_step_age_s = fmax(counts->oldest_step_age_s,
                                             (double)(now - a->last_step_ns) * 1e-9);
}

/* ---- the dry run ---- */

static int price(struct jobs *jobs, const struct dataset_record *dataset,
                 const struct plan *plan, struct plan_view *view, struct problem *p)
{
    struct ledger_budget b;
    struct filter_rdp step;
    struct psg_error err;
    view->fits = true;
    if (!job_is_charged(plan, dataset->spec))
        return 0;
    int r = ledger_budget(jobs->store, STORE_READER, dataset->id, &b, p);
    if (r)
        return r > ERROR_REFUSED ? ERROR_LEDGER : r;
    if (filter_step(&b.filter, plan->cost.sample_rate, plan->cost.noise_multiplier, &step,
                    &err) < 0)
        return error_from_psg(p, "/privacy", &err);
    struct filter_rdp total = filter_add(&b.committed, &step, plan->steps);
    view->fits = !b.frozen && filter_holds(&b.filter, &total);
    view->max_steps_that_fit =
        b.frozen ? 0 : filter_fit(&b.filter, &b.committed, &step, 1000000000);
    view->available_epsilon = fmax(0, b.filter.epsilon - filter_epsilon(&b.filter, &b.committed));
    return 0;
}

/* ops whose gradients an attempt makes: the plan's route, for layers that have parameters */
static int plan_table(const struct plan *plan, struct plan_layer **layersp, size_t *np,
                      struct problem *p)
{
    int n = psg_program_n_nodes(plan->program);
    struct plan_layer *layers = calloc((size_t)n + 1, sizeof *layers);
    if (!layers)
        return error_nomem(p);
    for (int i = 0; i < n; i++) {
        const char *path = psg_program_node_path(plan->program, i);
        const struct psg_type *type = psg_program_node_out_type(plan->program, i);
        size_t len = strlen(path);
        layers[i] = (struct plan_layer){ .path = path,
                                         .op = psg_program_node_op(plan->program, i)->name,
                                         .n_shape = (size_t)type->shape.rank,
                                         .shape = type->shape.dim };
        for (int k = 0; k < psg_program_n_params(plan->program); k++) {
            const struct psg_param_info *info = psg_program_param(plan->program, k);
            if (info->trainable && strncmp(info->name, path, len) == 0 && info->name[len] == '.')
                layers[i].params += info->size;
        }
        if (layers[i].params)
            layers[i].route = psg_plan_route(plan->compiled, i);
    }
    *layersp = layers;
    *np = (size_t)n;
    return 0;
}

static void plan_fill(const struct job_spec *spec, const struct plan *plan,
                      const struct dataset_record *dataset, struct job_spec *copy,
                      struct plan_warning warning[4], struct plan_view *view)
{
    plan_view_init(view);
    view->dataset = dataset->id;
    view->parameters = psg_program_param_size(plan->program);
    view->trainable_parameters = psg_program_trainable_size(plan->program);
    view->memory_bytes = plan->memory_bytes;
    view->steps = plan->steps;
    view->sample_rate = plan->sample_rate;
    view->expected_batch_size = plan->options.expected_batch_size;
    view->device = (struct device_spec){ DEVICE_CPU, -1 };
    view->grad_sample_mode = spec->grad_sample_mode;
    view->warnings = warning;
    if (plan->is_private) {
        view->noise_multiplier = plan->noise_multiplier;
        view->unit = plan->unit;
        view->epsilon = plan->epsilon;
        view->delta = plan->delta;
        view->accountant = spec->privacy->accountant;
    }
    if (plan->not_amplified)
        warning[view->n_warnings++].code = WARNING_NOT_AMPLIFIED;
    if (!plan->is_private)
        warning[view->n_warnings++].code = WARNING_NON_PRIVATE;
    if (dataset->spec->test_split != SPLIT_PUBLIC && dataset->n_test > 0)
        warning[view->n_warnings++].code = WARNING_EVAL_SKIPPED;
    *copy = *spec;
    view->spec = copy;
}

int jobs_answer_plan(struct jobs *jobs, const struct job_spec *spec,
                     const struct dataset_record *dataset, const struct plan *plan,
                     struct answer *answer, struct problem *p)
{
    struct plan_view view;
    struct job_spec copy; /* encoders want it mutable */
    struct plan_warning warning[4] = { { 0 } };
    plan_fill(spec, plan, dataset, &copy, warning, &view);
    int r = price(jobs, dataset, plan, &view, p);
    if (r == 0)
        r = plan_table(plan, &view.layers, &view.n_layers, p);
    if (r)
        return r;
    size_t size = 0;
    char *text = plan_view_encode(&view, &size);
    free(view.layers);
    return finish(answer, text, size, p);
}

/* ---- artifacts ---- */

int jobs_artifacts(struct jobs *jobs, const char *id, const char *viewer, struct answer *answer,
                   struct problem *p)
{
    _cleanup_(job_row_clear) struct job_row row = { 0 };
    struct artifact_view view[16];
    char text[16][3][80];
    struct artifact_page page = { 0, view, false };
    *answer = (struct answer){ 0 };
    int r = job_row_find(jobs->store, STORE_READER, id, viewer, &row, p);
    if (r)
        return r;
    sqlite3_stmt *stmt = store_prepare(
        jobs->store, STORE_READER,
        "SELECT name, sha256, media_type, bytes, created_at FROM artifacts WHERE job = ?1"
        " ORDER BY name LIMIT 16");
    if (!stmt)
        return store_prepare_error(jobs->store, p);
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && page.n_data < 16) {
        struct artifact_view *v = &view[page.n_data];
        for (int i = 0; i < 3; i++) {
            const char *column = (const char *)sqlite3_column_text(stmt, i);
            snprintf(text[page.n_data][i], sizeof text[0][0], "%s", column ? column : "");
        }
        artifact_view_init(v);
        v->name = text[page.n_data][0];
        v->sha256 = text[page.n_data][1];
        v->media_type = text[page.n_data][2];
        v->bytes = sqlite3_column_int64(stmt, 3);
        v->created_at = sqlite3_column_int64(stmt, 4);
        page.n_data++;
    }
    store_done(stmt);
    r = store_result(jobs->store, rc, p);
    if (r)
        return r;
    size_t size = 0;
    char *json = artifact_page_encode(&page, &size);
    return finish(answer, json, size, p);
}

/* Only names that have a row: a client's text never becomes a path. */
static int find_artifact(struct jobs *jobs, const char *id, const char *name,
                         struct jobs_file *file, struct problem *p)
{
    static const char *const types[] = { "application/json", "text/csv" };
    sqlite3_stmt *stmt = store_prepare(
        jobs->store, STORE_READER,
        "SELECT sha256, media_type FROM artifacts WHERE job = ?1 AND name = ?2");
    if (!stmt)
        return store_prepare_error(jobs->store, p);
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, name, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    file->media_type = "application/octet-stream";
    if (rc == SQLITE_ROW) {
        const char *sha = (const char *)sqlite3_column_text(stmt, 0);
        const char *type = (const char *)sqlite3_column_text(stmt, 1);
        snprintf(file->sha256, sizeof file->sha256, "%s", sha ? sha : "");
        for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
            if (strcmp(type, types[i]) == 0)
                file->media_type = types[i];
    }
    store_done(stmt);
    return rc == SQLITE_DONE ? error_refuse(p, PROBLEM_NOT_FOUND, "no artifact has this name")
                             : store_result(jobs->store, rc, p);
}

int jobs_artifact_open(struct jobs *jobs, const char *id, const char *viewer, const char *name,
                       struct jobs_file *file, struct problem *p)
{
    _cleanup_(job_row_clear) struct job_row row = { 0 };
    *file = (struct jobs_file){ .fd = -1 };
    int r = job_row_find(jobs->store, STORE_READER, id, viewer, &row, p);
    if (r == 0)
        r = find_artifact(jobs, id, name, file, p);
    if (r)
        return r;
    int dir = jobs->env->open(jobs->env, jobs->dir, row.id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    int fd = dir < 0 ? dir : jobs->env->open(jobs->env, dir, name, O_RDONLY | O_NOFOLLOW, 0);
    if (dir >= 0)
        close(dir);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        if (fd >= 0)
            close(fd);
        return error_refuse(p, PROBLEM_GONE, "the file is no longer there");
    }
    file->fd = fd;
    file->size = (uint64_t)st.st_size;
    return 0;
}
