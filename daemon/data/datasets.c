#include "data/datasets.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "data/data.h"
#include "data/internal.h"
#include "ledger/ledger.h"

/* ---- rows ---- */

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

int dataset_record_read(sqlite3_stmt *stmt, struct dataset_record *record, struct problem *p)
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
                                       "SELECT " DATASET_COLUMNS " FROM datasets WHERE id = ?1");
    if (!stmt)
        return store_prepare_error(datasets->store, p);
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    int r = rc == SQLITE_ROW    ? dataset_record_read(stmt, record, p)
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

static int insert(struct datasets *datasets, const struct dataset_load *load,
                  const char *sha256, const char *actor, struct problem *p)
{
    const struct dataset_spec *spec = &load->spec;
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
    sqlite3_bind_int64(stmt, 4, load->n_train);
    sqlite3_bind_int64(stmt, 5, load->n_test);
    if (actor)
        sqlite3_bind_text(stmt, 6, actor, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 7, env->realtime_ms(env));
    int r = store_run(datasets->store, stmt, p);
    if (r == 0 && spec->budget)
        r = ledger_open(datasets->store, spec->name, spec->budget->epsilon, spec->budget->delta,
                        actor, p);
    return r;
}

static int enter(struct datasets *datasets, const struct dataset_load *load,
                 const char *actor, struct answer *answer, bool *createdp, struct problem *p)
{
    char sha256[65];
    bool same = false;
    sodium_bin2hex(sha256, sizeof sha256, load->sha256, sizeof load->sha256);
    int r = check_new(datasets, load->spec.name, sha256, &same, p);
    *createdp = !same;
    if (r == 0 && !same)
        r = insert(datasets, load, sha256, actor, p);
    if (r == 0 && answer)
        r = datasets_answer(datasets, STORE_WRITER, load->spec.name, answer, p);
    return r;
}

int dataset_load(struct dataset_load *load, const struct dataset_spec *given, int root,
                 struct problem *p)
{
    _cleanup_(data_freep) struct data *data = NULL;
    *load = (struct dataset_load){ .spec = *given }; /* its lists stay the caller's */
    struct dataset_spec *spec = &load->spec;
    data_complete_spec(spec);
    int r = check_spec(spec, p);
    if (r == 0)
        r = data_load(spec, root, &data, p);
    if (r)
        return r;
    /* what the data have shown becomes part of the public description */
    memcpy(load->shape, data->input.shape.dim, sizeof load->shape);
    spec->inputs.n_shape = (size_t)data->input.shape.rank;
    spec->inputs.shape = load->shape;
    load->n_train = data->part[DATA_TRAIN].n;
    load->n_test = data->part[DATA_TEST].n;
    memcpy(load->sha256, data->sha256, sizeof load->sha256);
    if (spec->nominal_size < 1)
        spec->nominal_size = data_round_size(spec->unit == PRIVACY_UNIT_USER ? data->n_units
                                                                             : load->n_train);
    return 0;
}

int datasets_enter(struct datasets *datasets, const struct dataset_load *load, const char *actor,
                   struct answer *answer, bool *createdp, struct problem *p)
{
    int r = store_begin(datasets->store, p);
    if (r)
        return r;
    r = store_end(datasets->store, enter(datasets, load, actor, answer, createdp, p), p);
    if (r && answer)
        answer_clear(answer);
    return r;
}

int datasets_register(struct datasets *datasets, const struct dataset_spec *spec,
                      const char *actor, struct answer *answer, bool *createdp,
                      struct problem *p)
{
    struct dataset_load load;
    int r = dataset_load(&load, spec, datasets->root_dir, p);
    return r ? r : datasets_enter(datasets, &load, actor, answer, createdp, p);
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
