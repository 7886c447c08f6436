#include "ledger/row.h"

#include <math.h>
#include <sodium.h>
#include <string.h>

void row_init(struct row *row, enum ledger_kind kind, const char *dataset)
{
    *row = (struct row){ 0 };
    ledger_row_init(&row->pub);
    row->pub.kind = kind;
    row->pub.dataset = dataset;
    row->pub.steps = -1;
}

/* ---- hash ---- */

static void hash_int(crypto_hash_sha256_state *h, int64_t value)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)value >> (8 * i));
    crypto_hash_sha256_update(h, bytes, sizeof bytes);
}

static void hash_real(crypto_hash_sha256_state *h, double value)
{
    int64_t bits;
    value = isnan(value) ? NAN : value; /* one NaN only: absent */
    memcpy(&bits, &value, sizeof bits);
    hash_int(h, isnan(value) ? -1 : bits);
}

static void hash_text(crypto_hash_sha256_state *h, const char *text)
{
    hash_int(h, text ? (int64_t)strlen(text) : UINT32_MAX);
    if (text)
        crypto_hash_sha256_update(h, (const uint8_t *)text, strlen(text));
}

void row_hash(const struct row *row, uint8_t sha[ROW_SHA])
{
    static const char tag[] = "dpsgd-ledger-1";
    const struct ledger_row *pub = &row->pub;
    crypto_hash_sha256_state h;
    crypto_hash_sha256_init(&h);
    crypto_hash_sha256_update(&h, (const uint8_t *)tag, sizeof tag);
    hash_int(&h, pub->seq);
    hash_int(&h, pub->at);
    hash_text(&h, pub->dataset);
    hash_text(&h, pub->job);
    hash_int(&h, pub->attempt);
    hash_int(&h, (int64_t)pub->kind);
    hash_int(&h, pub->step_from);
    hash_int(&h, pub->step_to);
    hash_real(&h, pub->sample_rate);
    hash_real(&h, pub->noise_multiplier);
    hash_int(&h, pub->steps);
    hash_real(&h, pub->epsilon);
    hash_real(&h, pub->delta);
    hash_int(&h, (int64_t)pub->n_rdp);
    for (size_t i = 0; i < pub->n_rdp; i++)
        hash_int(&h, pub->rdp[i]);
    hash_text(&h, pub->actor);
    hash_text(&h, pub->note);
    hash_int(&h, row->orders ? FILTER_K : 0);
    for (int i = 0; row->orders && i < FILTER_K; i++)
        hash_real(&h, row->orders[i]);
    crypto_hash_sha256_update(&h, row->prev, ROW_SHA);
    crypto_hash_sha256_final(&h, sha);
}

/* ---- writing ---- */

static int read_tip(struct store *store, int64_t *seqp, uint8_t sha[ROW_SHA], struct problem *p)
{
    sqlite3_stmt *stmt = store_prepare(store, STORE_WRITER,
                                       "SELECT seq, sha FROM ledger ORDER BY seq DESC LIMIT 1");
    if (!stmt)
        return store_prepare_error(store, p);
    int rc = sqlite3_step(stmt);
    *seqp = 0;
    memset(sha, 0, ROW_SHA); /* the first row follows nothing */
    bool ok = true;
    if (rc == SQLITE_ROW) {
        *seqp = sqlite3_column_int64(stmt, 0);
        ok = sqlite3_column_bytes(stmt, 1) == ROW_SHA;
        if (ok)
            memcpy(sha, sqlite3_column_blob(stmt, 1), ROW_SHA);
    }
    store_done(stmt);
    return ok ? store_result(store, rc, p) : ERROR_LEDGER;
}

static void bind_count(sqlite3_stmt *stmt, int at, int64_t value)
{
    if (value >= 0)
        sqlite3_bind_int64(stmt, at, value); /* unbound is NULL */
}

static void bind_real(sqlite3_stmt *stmt, int at, double value)
{
    if (!isnan(value))
        sqlite3_bind_double(stmt, at, value);
}

static void bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
    if (text)
        sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC);
}

static int insert(struct store *store, const struct row *row, struct problem *p)
{
    sqlite3_stmt *stmt =
        store_prepare(store, STORE_WRITER,
                      "INSERT INTO ledger(" ROW_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,"
                      " ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)");
    if (!stmt)
        return store_prepare_error(store, p);
    const struct ledger_row *pub = &row->pub;
    sqlite3_bind_int64(stmt, 1, pub->seq);
    sqlite3_bind_int64(stmt, 2, pub->at);
    sqlite3_bind_int(stmt, 3, (int)pub->kind);
    bind_text(stmt, 4, pub->dataset);
    bind_text(stmt, 5, pub->job);
    bind_count(stmt, 6, pub->attempt);
    bind_count(stmt, 7, pub->step_from);
    bind_count(stmt, 8, pub->step_to);
    bind_real(stmt, 9, pub->sample_rate);
    bind_real(stmt, 10, pub->noise_multiplier);
    bind_count(stmt, 11, pub->steps);
    bind_real(stmt, 12, pub->epsilon);
    bind_real(stmt, 13, pub->delta);
    if (row->orders)
        sqlite3_bind_blob(stmt, 14, row->orders, FILTER_K * sizeof(double), SQLITE_STATIC);
    if (pub->n_rdp)
        sqlite3_bind_blob(stmt, 15, pub->rdp, (int)(pub->n_rdp * sizeof *pub->rdp),
                          SQLITE_STATIC);
    bind_text(stmt, 16, pub->actor);
    bind_text(stmt, 17, pub->note);
    sqlite3_bind_blob(stmt, 18, row->prev, ROW_SHA, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 19, row->sha, ROW_SHA, SQLITE_STATIC);
    return store_run(store, stmt, p);
}

int row_append(struct store *store, struct row *row, struct problem *p)
{
    int64_t seq = 0;
    int r = read_tip(store, &seq, row->prev, p);
    if (r)
        return r;
    row->pub.seq = seq + 1;
    row->pub.at = store_env(store)->realtime_ms(store_env(store));
    row_hash(row, row->sha);
    return insert(store, row, p);
}

/* ---- reading ---- */

static int64_t column_count(sqlite3_stmt *stmt, int i)
{
    return sqlite3_column_type(stmt, i) == SQLITE_NULL ? -1 : sqlite3_column_int64(stmt, i);
}

static double column_real(sqlite3_stmt *stmt, int i)
{
    return sqlite3_column_type(stmt, i) == SQLITE_NULL ? NAN : sqlite3_column_double(stmt, i);
}

/* false: present, but not this size */
static bool column_blob(sqlite3_stmt *stmt, int i, void *out, size_t size, bool *presentp)
{
    const void *blob = sqlite3_column_blob(stmt, i);
    *presentp = blob != NULL;
    if (!blob)
        return true;
    if ((size_t)sqlite3_column_bytes(stmt, i) != size)
        return false;
    memcpy(out, blob, size);
    return true;
}

bool row_read(sqlite3_stmt *stmt, struct row *row)
{
    bool orders, rdp, prev, sha;
    row_init(row, (enum ledger_kind)sqlite3_column_int(stmt, 2),
             (const char *)sqlite3_column_text(stmt, 3));
    struct ledger_row *pub = &row->pub;
    pub->seq = sqlite3_column_int64(stmt, 0);
    pub->at = sqlite3_column_int64(stmt, 1);
    pub->job = (const char *)sqlite3_column_text(stmt, 4);
    pub->attempt = column_count(stmt, 5);
    pub->step_from = column_count(stmt, 6);
    pub->step_to = column_count(stmt, 7);
    pub->sample_rate = column_real(stmt, 8);
    pub->noise_multiplier = column_real(stmt, 9);
    pub->steps = column_count(stmt, 10);
    pub->epsilon = column_real(stmt, 11);
    pub->delta = column_real(stmt, 12);
    pub->actor = (const char *)sqlite3_column_text(stmt, 15);
    pub->note = (const char *)sqlite3_column_text(stmt, 16);
    if (!pub->dataset || !column_blob(stmt, 13, row->orders_copy, sizeof row->orders_copy, &orders) ||
        !column_blob(stmt, 14, row->rdp, sizeof row->rdp, &rdp) ||
        !column_blob(stmt, 17, row->prev, ROW_SHA, &prev) ||
        !column_blob(stmt, 18, row->sha, ROW_SHA, &sha) || !prev || !sha)
        return false;
    row->orders = orders ? row->orders_copy : NULL;
    pub->rdp = rdp ? row->rdp : NULL;
    pub->n_rdp = rdp ? FILTER_K : 0;
    pub->prev_sha256 = sodium_bin2hex(row->prev_hex, sizeof row->prev_hex, row->prev, ROW_SHA);
    pub->sha256 = sodium_bin2hex(row->sha_hex, sizeof row->sha_hex, row->sha, ROW_SHA);
    return true;
}
