#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "data/internal.h"
#include "ledger/ledger.h"

/* ---- one ---- */

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
    view->n_columns = spec->n_columns;
    view->columns = spec->columns;
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

int datasets_answer(struct datasets *datasets, enum store_side side, const char *id,
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
    return datasets_answer(datasets, STORE_READER, id, answer, p);
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
                                       "SELECT " DATASET_COLUMNS " FROM datasets WHERE num > ?1"
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
        r = dataset_record_read(stmt, &page->record[page->n++], p);
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

/* The budget after a change that answered r, or what the key was answered before; ends the change. */
static int finish_change(struct datasets *datasets, const char *id, int r, const char *actor,
                         const struct datasets_key *key, struct answer *answer,
                         struct problem *p)
{
    bool again = key && key->replayed;
    if (r == LEDGER_E_UNKNOWN)
        r = error_refuse(p, PROBLEM_NOT_FOUND, "no dataset with a budget has this name");
    if (r == 0 && !again)
        r = answer_budget(datasets, STORE_WRITER, id, answer, p);
    if (r == 0 && !again)
        r = datasets_key_remember(datasets->store, actor, key, answer, p);
    r = store_end(datasets->store, r, p);
    if (r)
        answer_clear(answer);
    return r;
}

int datasets_change(struct datasets *datasets, const char *id, const struct budget_change *change,
                    const char *actor, struct datasets_key *key, struct answer *answer,
                    struct problem *p)
{
    int r = store_begin(datasets->store, p);
    if (r)
        return r;
    r = datasets_key_find(datasets->store, actor, key, answer, p);
    if (r == 0 && !(key && key->replayed))
        r = ledger_change(datasets->store, id, change, actor, p);
    return finish_change(datasets, id, r, actor, key, answer, p);
}

int datasets_import(struct datasets *datasets, const char *id, const struct ledger_import *import,
                    const char *actor, struct datasets_key *key, struct answer *answer,
                    struct problem *p)
{
    int r = store_begin(datasets->store, p);
    if (r)
        return r;
    r = datasets_key_find(datasets->store, actor, key, answer, p);
    if (r == 0 && !(key && key->replayed))
        r = ledger_import(datasets->store, id, import, actor, p);
    return finish_change(datasets, id, r, actor, key, answer, p);
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
