#include "data/datasets.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "data/data.h"
#include "ledger/ledger.h"

struct datasets {
    struct store *store;
    int root_dir;
};

/* ---- rows ---- */

#define COLUMNS "num, id, sha256, spec, n_train, n_test, owner, created_at"

static char *copy_text(sqlite3_stmt *stmt, int i)
{
    const char *text = (const char *)sqlite3_column_text(stmt, i);
    return text ? strdup(text) : NULL;
}

void dataset_record_clear(struct dataset_record *record)
{
    free(record->id);
    free(record->sha256);
    free(record->owner);
    dataset_spec_free(record->spec);
    *record = (struct dataset_record){ 0 };
}

static int record_read(sqlite3_stmt *stmt, struct dataset_record *record, struct problem *p)
{
    *record = (struct dataset_record){ .num = sqlite3_column_int64(stmt, 0),
                                       .id = copy_text(stmt, 1),
                                       .sha256 = copy_text(stmt, 2),
                                       .n_train = sqlite3_column_int64(stmt, 4),
                                       .n_test = sqlite3_column_int64(stmt, 5),
                                       .owner = copy_text(stmt, 6),
                                       .created_at = sqlite3_column_int64(stmt, 7) };
    const char *spec = (const char *)sqlite3_column_text(stmt, 3);
    if (!record->id || !record->sha256 || !spec)
        return error_nomem(p);
    struct problem why;
    int r = dataset_spec_decode(&record->spec, spec, (size_t)sqlite3_column_bytes(stmt, 3), &why);
    if (r == PROTO_E_NOMEM)
        return error_nomem(p);
    return r ? ERROR_CORRUPT : 0;
}

int datasets_find(struct datasets *datasets, enum store_side side, const char *id,
                  struct dataset_record *record, struct problem *p)
{
    *record = (struct dataset_record){ 0 };
    sqlite3_stmt *stmt = store_prepare(datasets->store, side,
                                       "SELECT " COLUMNS " FROM datasets WHERE id = ?1");
    if (!stmt)
        return store_prepare_error(datasets->store, p);
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    int r = rc == SQLITE_ROW    ? record_read(stmt, record, p)
            : rc == SQLITE_DONE ? error_refuse(p, PROBLEM_NOT_FOUND, "no dataset has this name")
                                : store_result(datasets->store, rc, p);
    store_done(stmt);
    if (r)
        dataset_record_clear(record);
    return r;
}

int datasets_root(const struct datasets *datasets)
{
    return datasets->root_dir;
}

/* ---- answers ---- */

static int finish(struct answer *answer, char *text, size_t size, struct problem *p)
{
    if (!text)
        return error_nomem(p);
    *answer = (struct answer){ text, size };
    return 0;
}

static double in_nats(int64_t units)
{
    return units == FILTER_INF ? INFINITY : (double)units / FILTER_UNIT;
}

/* order[] is the caller's room for the filter's lines */
static void budget_fill(const struct ledger_budget *b, struct budget_view *view,
                        struct budget_order order[FILTER_K])
{
    double committed = filter_epsilon(&b->filter, &b->committed);
    budget_view_init(view);
    view->epsilon = b->filter.epsilon;
    view->delta = b->filter.delta;
    view->spent = filter_epsilon(&b->filter, &b->leased);
    view->reserved = fmax(0, committed - view->spent);
    view->available = fmax(0, b->filter.epsilon - committed);
    view->frozen = b->frozen;
    view->jobs = b->jobs;
    view->n_orders = FILTER_K;
    view->orders = order;
    for (int j = 0; j < FILTER_K; j++)
        order[j] = (struct budget_order){
            .order = b->filter.order[j],
            .cap = in_nats(b->filter.cap[j]),
            .spent = in_nats(b->leased.at[j]),
            .leased = in_nats(b->leased.at[j]),
            .reserved = in_nats(b->committed.at[j]) - in_nats(b->leased.at[j]),
        };
}

static int budget_of(struct datasets *datasets, enum store_side side, const char *id,
                     struct ledger_budget *b, bool *hasp, struct problem *p)
{
    int r = ledger_budget(datasets->store, side, id, b, p);
    *hasp = r == 0;
    return r == LEDGER_E_UNKNOWN ? 0 : r;
}

struct view_room {
    struct budget_view budget;
    struct budget_order order[FILTER_K];
};

static int view_fill(struct datasets *datasets, enum store_side side,
                     const struct dataset_record *record, struct dataset_view *view,
                     struct view_room *room, struct problem *p)
{
    const struct dataset_spec *spec = record->spec;
    struct ledger_budget b;
    bool has_budget;
    int r = budget_of(datasets, side, record->id, &b, &has_budget, p);
    if (r)
        return r;
    dataset_view_init(view);
    view->id = view->name = record->id;
    view->description = spec->description;
    view->format = spec->format;
    view->inputs = spec->inputs;
    view->classes = spec->classes;
    view->nominal_size = spec->nominal_size;
    view->test_size = spec->test_split == SPLIT_PUBLIC && record->n_test ? record->n_test : -1;
    view->normalize = spec->normalize;
    view->telemetry = spec->telemetry;
    view->loss_bound = spec->loss_bound;
    view->test_split = spec->test_split;
    view->is_public = spec->is_public;
    view->unit = spec->unit;
    view->sha256 = record->sha256;
    view->owner = record->owner;
    view->created_at = record->created_at;
    if (has_budget) {
        budget_fill(&b, &room->budget, room->order);
        view->budget = &room->budget;
    }
    return 0;
}

static int answer_one(struct datasets *datasets, enum store_side side, const char *id,
                      struct answer *answer, struct problem *p)
{
    _cleanup_(dataset_record_clear) struct dataset_record record = { 0 };
    struct dataset_view view;
    struct view_room room;
    int r = datasets_find(datasets, side, id, &record, p);
    if (r == 0)
        r = view_fill(datasets, side, &record, &view, &room, p);
    if (r)
        return r;
    size_t size = 0;
    char *text = dataset_view_encode(&view, &size);
    return finish(answer, text, size, p);
}

int datasets_get(struct datasets *datasets, const char *id, struct answer *answer,
                 struct problem *p)
{
    return answer_one(datasets, STORE_READER, id, answer, p);
}

/* one page in memory */
struct page {
    struct dataset_record record[100];
    struct dataset_view view[100];
    struct view_room room[100];
    int n;
    bool more;
};

static int page_read(struct datasets *datasets, int64_t after, int limit, struct page *page,
                     struct problem *p)
{
    sqlite3_stmt *stmt = store_prepare(datasets->store, STORE_READER,
                                       "SELECT " COLUMNS " FROM datasets WHERE num > ?1"
                                       " ORDER BY num LIMIT ?2");
    if (!stmt)
        return store_prepare_error(datasets->store, p);
    sqlite3_bind_int64(stmt, 1, after);
    sqlite3_bind_int(stmt, 2, limit + 1);
    int rc, r = 0;
    while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        page->more = page->n == limit;
        if (page->more)
            break;
        r = record_read(stmt, &page->record[page->n++], p);
    }
    if (r == 0)
        r = store_result(datasets->store, rc, p);
    store_done(stmt);
    for (int i = 0; i < page->n && r == 0; i++)
        r = view_fill(datasets, STORE_READER, &page->record[i], &page->view[i], &page->room[i],
                      p);
    return r;
}

static void page_freep(struct page **pagep)
{
    for (int i = 0; *pagep && i < (*pagep)->n; i++)
        dataset_record_clear(&(*pagep)->record[i]);
    free(*pagep);
}

int datasets_list(struct datasets *datasets, const char *after, int limit, struct answer *answer,
                  struct problem *p)
{
    _cleanup_(page_freep) struct page *page = calloc(1, sizeof *page);
    int64_t num = 0;
    int r = 0;
    if (!page)
        return error_nomem(p);
    limit = limit < 1 ? 1 : limit > 100 ? 100 : limit;
    if (after) {
        _cleanup_(dataset_record_clear) struct dataset_record record = { 0 };
        r = datasets_find(datasets, STORE_READER, after, &record, p);
        num = r ? 0 : record.num;
    }
    if (r == 0)
        r = page_read(datasets, num, limit, page, p);
    if (r)
        return r;
    struct dataset_page out = { (size_t)page->n, page->view, page->more };
    size_t size = 0;
    char *text = dataset_page_encode(&out, &size);
    return finish(answer, text, size, p);
}

/* ---- budget ---- */

static int answer_budget(struct datasets *datasets, enum store_side side, const char *id,
                         struct answer *answer, struct problem *p)
{
    _cleanup_(dataset_record_clear) struct dataset_record record = { 0 };
    struct ledger_budget b;
    struct view_room room;
    int r = datasets_find(datasets, side, id, &record, p);
    if (r)
        return r;
    r = ledger_budget(datasets->store, side, id, &b, p);
    if (r == LEDGER_E_UNKNOWN)
        return error_refuse(p, PROBLEM_NOT_FOUND, "this dataset is public and has no budget");
    if (r)
        return r;
    budget_fill(&b, &room.budget, room.order);
    room.budget.dataset = record.id;
    size_t size = 0;
    char *text = budget_view_encode(&room.budget, &size);
    return finish(answer, text, size, p);
}

int datasets_budget(struct datasets *datasets, const char *id, struct answer *answer,
                    struct problem *p)
{
    return answer_budget(datasets, STORE_READER, id, answer, p);
}

int datasets_change(struct datasets *datasets, const char *id, const struct budget_change *change,
                    const char *actor, struct answer *answer, struct problem *p)
{
    int r = store_begin(datasets->store, p);
    if (r)
        return r;
    r = ledger_change(datasets->store, id, change, actor, p);
    if (r == LEDGER_E_UNKNOWN)
        r = error_refuse(p, PROBLEM_NOT_FOUND, "no dataset with a budget has this name");
    if (r == 0)
        r = answer_budget(datasets, STORE_WRITER, id, answer, p);
    r = store_end(datasets->store, r, p);
    if (r)
        answer_clear(answer);
    return r;
}

/* ---- ledger rows: encoded one by one into a page ---- */

struct rows {
    FILE *out;
    int n;
    struct problem *p;
};

static int put_row(void *arg, const struct ledger_row *row)
{
    struct rows *rows = arg;
    size_t size = 0;
    _cleanup_free_ char *text = ledger_row_encode(row, &size);
    if (!text)
        return error_nomem(rows->p);
    fprintf(rows->out, "%s%.*s", rows->n++ ? "," : "", (int)size, text);
    return 0;
}

int datasets_ledger(struct datasets *datasets, const char *id, uint64_t after, int limit,
                    struct answer *answer, struct problem *p)
{
    _cleanup_(dataset_record_clear) struct dataset_record record = { 0 };
    int r = datasets_find(datasets, STORE_READER, id, &record, p);
    if (r)
        return r;
    char *text = NULL;
    size_t size = 0;
    bool more = false;
    struct rows rows = { .out = open_memstream(&text, &size), .p = p };
    if (!rows.out)
        return error_nomem(p);
    limit = limit < 1 ? 1 : limit > 1000 ? 1000 : limit;
    fprintf(rows.out, "{\"object\":\"list\",\"data\":[");
    r = ledger_rows(datasets->store, id, after > INT64_MAX ? INT64_MAX : (int64_t)after, limit,
                    put_row, &rows, &more, p);
    fprintf(rows.out, "],\"has_more\":%s}", more ? "true" : "false");
    bool failed = ferror(rows.out) != 0;
    failed |= fclose(rows.out) != 0;
    if (r || failed) {
        free(text);
        return r ? r : error_nomem(p);
    }
    return finish(answer, text, size, p);
}

/* ---- register ---- */

static bool name_is_fine(const char *name)
{
    size_t n = strlen(name);
    if (n < 1 || n > 64 || strchr("._-", name[0]))
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static int check_spec(const struct dataset_spec *spec, struct problem *p)
{
    if (!name_is_fine(spec->name)) {
        problem_invalid(p, "/name", ITEM_INVALID_VALUE,
                        "use up to 64 letters, digits and . _ - and begin with a letter or digit");
        return ERROR_REFUSED;
    }
    if (!spec->budget && !spec->is_public) {
        problem_invalid(p, "/budget", ITEM_MISSING_MEMBER,
                        "is needed unless the data are public");
        return ERROR_REFUSED;
    }
    if (spec->inputs.kind == DATASET_TOKENS && spec->inputs.vocabulary < 1) {
        problem_invalid(p, "/inputs/vocabulary", ITEM_MISSING_MEMBER, "is needed for tokens");
        return ERROR_REFUSED;
    }
    return 0;
}

/* Same name and content: nothing to do (1). Same name or same content alone: refused. */
static int check_new(struct datasets *datasets, const char *name, const char *sha256,
                     bool *samep, struct problem *p)
{
    sqlite3_stmt *stmt = store_prepare(datasets->store, STORE_WRITER,
                                       "SELECT id, sha256 FROM datasets WHERE id = ?1 OR sha256 = ?2");
    if (!stmt)
        return store_prepare_error(datasets->store, p);
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, sha256, -1, SQLITE_STATIC);
    int rc, r = 0;
    *samep = false;
    while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *id = (const char *)sqlite3_column_text(stmt, 0);
        const char *sha = (const char *)sqlite3_column_text(stmt, 1);
        if (!id || !sha)
            r = error_nomem(p);
        else if (strcmp(id, name) == 0 && strcmp(sha, sha256) == 0)
            *samep = true;
        else if (strcmp(id, name) == 0)
            r = error_refuse(p, PROBLEM_ALREADY_EXISTS, "a dataset with this name exists");
        else
            r = error_refuse(p, PROBLEM_ALREADY_EXISTS,
                             "the same data are registered as '%s', and share its budget", id);
    }
    if (r == 0)
        r = store_result(datasets->store, rc, p);
    store_done(stmt);
    return r;
}

static int insert(struct datasets *datasets, const struct dataset_spec *spec,
                  const struct data *data, const char *sha256, const char *actor,
                  struct problem *p)
{
    size_t size = 0;
    _cleanup_free_ char *text = dataset_spec_encode(spec, &size);
    if (!text)
        return error_nomem(p);
    sqlite3_stmt *stmt = store_prepare(
        datasets->store, STORE_WRITER,
        "INSERT INTO datasets(id, sha256, spec, n_train, n_test, owner, created_at)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    if (!stmt)
        return store_prepare_error(datasets->store, p);
    const struct env *env = store_env(datasets->store);
    sqlite3_bind_text(stmt, 1, spec->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, sha256, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, text, (int)size, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 4, data->part[DATA_TRAIN].n);
    sqlite3_bind_int64(stmt, 5, data->part[DATA_TEST].n);
    if (actor)
        sqlite3_bind_text(stmt, 6, actor, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 7, env->realtime_ms(env));
    int r = store_run(datasets->store, stmt, p);
    if (r == 0 && spec->budget)
        r = ledger_open(datasets->store, spec->name, spec->budget->epsilon, spec->budget->delta,
                        actor, p);
    return r;
}

static int add(struct datasets *datasets, const struct dataset_spec *spec,
               const struct data *data, const char *actor, struct answer *answer,
               bool *createdp, struct problem *p)
{
    char sha256[65];
    bool same = false;
    sodium_bin2hex(sha256, sizeof sha256, data->sha256, sizeof data->sha256);
    int r = check_new(datasets, spec->name, sha256, &same, p);
    *createdp = !same;
    if (r == 0 && !same)
        r = insert(datasets, spec, data, sha256, actor, p);
    if (r == 0 && answer)
        r = answer_one(datasets, STORE_WRITER, spec->name, answer, p);
    return r;
}

int datasets_register(struct datasets *datasets, const struct dataset_spec *given,
                      const char *actor, struct answer *answer, bool *createdp,
                      struct problem *p)
{
    struct dataset_spec spec = *given; /* its lists stay the caller's */
    _cleanup_(data_freep) struct data *data = NULL;
    data_complete_spec(&spec);
    int r = check_spec(&spec, p);
    if (r == 0)
        r = data_load(&spec, datasets->root_dir, &data, p);
    if (r)
        return r;
    /* what the data have shown becomes part of the public description */
    spec.inputs.n_shape = (size_t)data->input.shape.rank;
    spec.inputs.shape = data->input.shape.dim;
    if (spec.nominal_size < 1)
        spec.nominal_size = data_round_size(data->part[DATA_TRAIN].n);
    r = store_begin(datasets->store, p);
    if (r)
        return r;
    r = store_end(datasets->store, add(datasets, &spec, data, actor, answer, createdp, p), p);
    if (r && answer)
        answer_clear(answer);
    return r;
}

/* ---- open ---- */

/* An empty installation can run a job: the digits are there with a budget of their own. */
static int register_embedded(struct datasets *datasets, const char *actor, struct problem *p)
{
    static const char text[] = "{\"name\": \"digits\", \"format\": \"embedded\","
                               " \"description\": \"UCI optical recognition of handwritten"
                               " digits (Alpaydin and Kaynak, CC BY 4.0)\","
                               " \"budget\": {\"epsilon\": 8, \"delta\": 1e-5}}";
    _cleanup_(dataset_spec_freep) struct dataset_spec *spec = NULL;
    bool created;
    int r = dataset_spec_decode(&spec, text, sizeof text - 1, p);
    if (r)
        return r == PROTO_E_NOMEM ? ERROR_REFUSED : ERROR_INTERNAL;
    return datasets_register(datasets, spec, actor, NULL, &created, p);
}

int datasets_open(struct datasets **datasetsp, struct store *store,
                  const struct datasets_config *config, char *text, size_t size)
{
    _cleanup_free_ struct datasets *datasets = calloc(1, sizeof *datasets);
    struct problem p;
    problem_init(&p);
    if (!datasets) {
        snprintf(text, size, "out of memory");
        return ERROR_REFUSED;
    }
    datasets->store = store;
    datasets->root_dir = config->root_dir;
    if (config->embedded) {
        int r = register_embedded(datasets, config->actor, &p);
        if (r == 0)
            r = store_commit(store);
        /* a custodian may have registered the same data, or something else, under this name */
        if (r && !(r == ERROR_REFUSED && p.code == PROBLEM_ALREADY_EXISTS)) {
            snprintf(text, size, "the embedded digits cannot be registered: %s",
                     r == ERROR_REFUSED ? p.title : error_name(r));
            return r;
        }
    }
    *datasetsp = steal(&datasets);
    return 0;
}

struct datasets *datasets_close(struct datasets *datasets)
{
    free(datasets);
    return NULL;
}
