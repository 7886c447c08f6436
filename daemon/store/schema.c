#include "store/schema.h"

#include <stdio.h>

/* One entry per version; entry i leads from version i to i + 1 and never changes once released.
 * Blobs of numbers are little-endian arrays in the order of the filter. */
static const char *const steps[SCHEMA_VERSION] = {
    "CREATE TABLE datasets("
    " num INTEGER PRIMARY KEY,"
    " id TEXT NOT NULL UNIQUE,"
    " sha256 TEXT NOT NULL UNIQUE," /* of the content: one budget per content */
    " spec TEXT NOT NULL,"
    " n_train INTEGER NOT NULL, n_test INTEGER NOT NULL,"
    " owner TEXT, created_at INTEGER NOT NULL);"

    "CREATE TABLE budgets("
    " dataset TEXT PRIMARY KEY REFERENCES datasets(id),"
    " epsilon REAL NOT NULL, delta REAL NOT NULL,"
    " frozen INTEGER NOT NULL DEFAULT 0,"
    " orders BLOB NOT NULL," /* double[k] */
    " leased BLOB NOT NULL," /* int64[k], 2^-40: steps that may have been released */
    " committed BLOB NOT NULL" /* leased plus what open reservations may still lease */
    ") WITHOUT ROWID;"

    "CREATE TABLE accounts("
    " job TEXT PRIMARY KEY,"
    " dataset TEXT NOT NULL REFERENCES budgets(dataset),"
    " attempt INTEGER NOT NULL,"
    " sample_rate REAL NOT NULL, noise_multiplier REAL NOT NULL,"
    " steps INTEGER NOT NULL,"
    " leased INTEGER NOT NULL CHECK(leased BETWEEN 0 AND steps),"
    " settled INTEGER NOT NULL DEFAULT 0,"
    " rdp BLOB NOT NULL" /* int64[k] of one step */
    ") WITHOUT ROWID;"
    "CREATE INDEX accounts_dataset ON accounts(dataset);"

    "CREATE TABLE ledger("
    " seq INTEGER PRIMARY KEY,"
    " at INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " dataset TEXT NOT NULL, job TEXT, attempt INTEGER,"
    " step_from INTEGER, step_to INTEGER,"
    " sample_rate REAL, noise_multiplier REAL, steps INTEGER,"
    " epsilon REAL, delta REAL, orders BLOB, rdp BLOB,"
    " actor TEXT, note TEXT,"
    " prev BLOB NOT NULL, sha BLOB NOT NULL);"
    "CREATE INDEX ledger_dataset ON ledger(dataset, seq);"
    "CREATE TRIGGER ledger_is_append_only_1 BEFORE UPDATE ON ledger"
    " BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;"
    "CREATE TRIGGER ledger_is_append_only_2 BEFORE DELETE ON ledger"
    " BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;"

    "CREATE TABLE jobs("
    " num INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id TEXT NOT NULL UNIQUE,"
    " owner TEXT NOT NULL, name TEXT, dataset TEXT NOT NULL REFERENCES datasets(id),"
    " spec TEXT NOT NULL,"
    " status INTEGER NOT NULL CHECK(status BETWEEN 1 AND 7),"
    " reason INTEGER NOT NULL DEFAULT 0, detail TEXT,"
    " attempt INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0,"
    " priority INTEGER NOT NULL,"
    " steps INTEGER NOT NULL, sample_rate REAL NOT NULL,"
    " noise_multiplier REAL, delta REAL, epsilon_at_end REAL,"
    " done INTEGER NOT NULL DEFAULT 0," /* steps whose results have been announced */
    " created_at INTEGER NOT NULL, status_since INTEGER NOT NULL,"
    " started_at INTEGER, finished_at INTEGER);"
    "CREATE INDEX jobs_status ON jobs(status, num);"
    "CREATE INDEX jobs_owner ON jobs(owner, num);"
    "CREATE INDEX jobs_dataset ON jobs(dataset, num);"

    "CREATE TABLE transitions("
    " num INTEGER PRIMARY KEY,"
    " job TEXT NOT NULL, from_status INTEGER NOT NULL, to_status INTEGER NOT NULL,"
    " reason INTEGER NOT NULL, attempt INTEGER NOT NULL, actor TEXT, at INTEGER NOT NULL);"
    "CREATE INDEX transitions_job ON transitions(job, num);"

    "CREATE TABLE idempotency("
    " owner TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL,"
    " job TEXT NOT NULL, created_at INTEGER NOT NULL,"
    " PRIMARY KEY(owner, key)) WITHOUT ROWID;"
    "CREATE INDEX idempotency_age ON idempotency(created_at);"

    "CREATE TABLE events("
    " job TEXT NOT NULL, seq INTEGER NOT NULL, type INTEGER NOT NULL, data TEXT NOT NULL,"
    " PRIMARY KEY(job, seq)) WITHOUT ROWID;"
    "CREATE INDEX events_eval ON events(job, seq) WHERE type = 3;" /* few among many steps */

    "CREATE TABLE artifacts("
    " job TEXT NOT NULL, name TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,"
    " media_type TEXT NOT NULL, created_at INTEGER NOT NULL,"
    " PRIMARY KEY(job, name)) WITHOUT ROWID;",

    "CREATE TABLE budget_keys("
    " owner TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL,"
    " answer TEXT NOT NULL, created_at INTEGER NOT NULL,"
    " PRIMARY KEY(owner, key)) WITHOUT ROWID;"
    "CREATE INDEX budget_keys_age ON budget_keys(created_at);",
};

static int read_version(sqlite3 *db, int *versionp)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        *versionp = sqlite3_column_int(stmt, 0);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(stmt);
    return rc;
}

static int migrate_step(sqlite3 *db, int version)
{
    char mark[64];
    snprintf(mark, sizeof mark, "PRAGMA user_version=%d", version + 1);
    int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_exec(db, steps[version], NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, mark, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    if (rc != SQLITE_OK && !sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int schema_migrate(sqlite3 *db)
{
    int version = 0;
    int rc = read_version(db, &version);
    if (rc == SQLITE_OK && version > SCHEMA_VERSION)
        return SQLITE_SCHEMA;
    for (; rc == SQLITE_OK && version < SCHEMA_VERSION; version++)
        rc = migrate_step(db, version);
    return rc;
}

int schema_check(sqlite3 *db)
{
    int version = 0, rc = read_version(db, &version);
    return rc == SQLITE_OK && (version < 1 || version > SCHEMA_VERSION) ? SQLITE_SCHEMA : rc;
}
