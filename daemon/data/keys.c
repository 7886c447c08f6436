/* Idempotency-Keys of changes to a budget, remembered in the change's own transaction: a change
 * that is sent again, because its answer was lost, is answered and not made again. */
#include <string.h>

#include "base/error.h"
#include "data/internal.h"

static const int64_t remembered_ms = INT64_C(24) * 3600 * 1000; /* as long as those of jobs */

static int forget_old(struct store *store, struct problem *p)
{
    sqlite3_stmt *stmt = store_prepare(store, STORE_WRITER,
                                       "DELETE FROM budget_keys WHERE created_at < ?1");
    if (stmt)
        sqlite3_bind_int64(stmt, 1,
                           store_env(store)->realtime_ms(store_env(store)) - remembered_ms);
    return store_run(store, stmt, p);
}

/* The row that stmt stands on. */
static int answer_again(sqlite3_stmt *stmt, struct datasets_key *key, struct answer *answer,
                        struct problem *p)
{
    const void *known = sqlite3_column_blob(stmt, 0);
    if (!known || sqlite3_column_bytes(stmt, 0) != (int)sizeof key->fingerprint ||
        memcmp(known, key->fingerprint, sizeof key->fingerprint) != 0)
        return error_refuse(p, PROBLEM_IDEMPOTENCY_KEY_REUSED, NULL);
    const char *text = (const char *)sqlite3_column_text(stmt, 1);
    char *copy = text ? strdup(text) : NULL;
    if (!copy)
        return error_nomem(p);
    *answer = (struct answer){ copy, strlen(copy) };
    key->replayed = true;
    return 0;
}

int datasets_key_find(struct store *store, const char *owner, struct datasets_key *key,
                      struct answer *answer, struct problem *p)
{
    if (!key)
        return 0;
    key->replayed = false;
    int r = forget_old(store, p);
    if (r)
        return r;
    sqlite3_stmt *stmt = store_prepare(
        store, STORE_WRITER,
        "SELECT fingerprint, answer FROM budget_keys WHERE owner = ?1 AND key = ?2");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, owner, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, key->text, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    r = rc == SQLITE_ROW ? answer_again(stmt, key, answer, p) : store_result(store, rc, p);
    store_done(stmt);
    return r;
}

int datasets_key_remember(struct store *store, const char *owner, const struct datasets_key *key,
                          const struct answer *answer, struct problem *p)
{
    if (!key)
        return 0;
    sqlite3_stmt *stmt = store_prepare(
        store, STORE_WRITER,
        "INSERT INTO budget_keys(owner, key, fingerprint, answer, created_at)"
        " VALUES(?1, ?2, ?3, ?4, ?5)");
    if (!stmt)
        return store_prepare_error(store, p);
    sqlite3_bind_text(stmt, 1, owner, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, key->text, -1, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 3, key->fingerprint, sizeof key->fingerprint, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 4, answer->text, (int)answer->size, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 5, store_env(store)->realtime_ms(store_env(store)));
    return store_run(store, stmt, p);
}
