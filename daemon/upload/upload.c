#include "upload/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "upload/internal.h"

/* ---- open, close ---- */

static void uploads_closep(struct uploads **uploadsp)
{
    *uploadsp = uploads_close(*uploadsp);
}

int uploads_open(struct uploads **uploadsp, const struct env *env, int state_dir,
                 const struct uploads_config *config, const struct log *log, char *why,
                 size_t size)
{
    _cleanup_(uploads_closep) struct uploads *uploads = calloc(1, sizeof *uploads);
    if (!uploads) {
        snprintf(why, size, "out of memory");
        return -ENOMEM;
    }
    uploads->env = env;
    uploads->log = log;
    uploads->config = *config;
    uploads->dir = env_open_dir(env, state_dir, "uploads");
    int r = uploads->dir < 0 ? uploads->dir : uploads_load(uploads);
    if (r < 0) {
        snprintf(why, size, "uploads: %s", strerror(-r));
        return r;
    }
    uploads_expire(uploads);
    *uploadsp = steal(&uploads);
    return 0;
}

struct uploads *uploads_close(struct uploads *uploads)
{
    if (!uploads)
        return NULL;
    for (size_t i = 0; i < uploads->n; i++)
        free(uploads->records[i]);
    free(uploads->records);
    if (uploads->dir >= 0)
        close(uploads->dir);
    free(uploads);
    return NULL;
}

void uploads_reconfigure(struct uploads *uploads, const struct uploads_config *config)
{
    uploads->config = *config;
}

int uploads_dir(const struct uploads *uploads)
{
    return uploads->dir;
}

/* ---- records ---- */

struct record *uploads_add(struct uploads *uploads, const struct record *record)
{
    if (uploads->n == uploads->cap) {
        size_t cap = uploads->cap ? 2 * uploads->cap : 16;
        struct record **records = reallocarray(uploads->records, cap, sizeof *records);
        if (!records)
            return NULL;
        uploads->records = records;
        uploads->cap = cap;
    }
    struct record *copy = malloc(sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *record;
    size_t i = uploads->n++;
    for (; i > 0 && uploads->records[i - 1]->created_at > copy->created_at; i--)
        uploads->records[i] = uploads->records[i - 1];
    uploads->records[i] = copy;
    return copy;
}

static void forget(struct uploads *uploads, struct record *record)
{
    size_t i = 0;
    while (uploads->records[i] != record)
        i++;
    memmove(&uploads->records[i], &uploads->records[i + 1],
            (uploads->n - i - 1) * sizeof *uploads->records);
    uploads->n--;
    free(record);
}

/* Another record has this blob, or may have it in a moment. */
static bool is_shared(const struct uploads *uploads, const struct record *record)
{
    for (size_t i = 0; i < uploads->n; i++) {
        const struct record *other = uploads->records[i];
        if (other != record && (other->complete || other->busy) &&
            strcmp(other->digest, record->digest) == 0)
            return true;
    }
    return false;
}

int uploads_remove(struct uploads *uploads, struct record *record)
{
    char name[UPLOAD_FILE_SIZE];
    bool keep = is_shared(uploads, record);
    record_file(record, "json", name);
    int r = uploads->env->unlink(uploads->env, uploads->dir, name);
    if (r < 0 && r != -ENOENT)
        return r;
    /* without its record the rest is swept at the next start, if it is not removed now */
    env_sync_dir(uploads->env, uploads->dir);
    record_file(record, "part", name);
    if (!record->complete)
        uploads->env->unlink(uploads->env, uploads->dir, name);
    blob_file(record->digest, name);
    if (record->complete && !keep)
        uploads->env->unlink(uploads->env, uploads->dir, name);
    forget(uploads, record);
    return 0;
}

void uploads_expire(struct uploads *uploads)
{
    int64_t now = uploads->env->realtime_ms(uploads->env);
    for (size_t i = uploads->n; i-- > 0;) {
        struct record *record = uploads->records[i];
        char id[UPLOAD_ID_SIZE];
        if (record->complete || record->busy ||
            record->changed_at > now - uploads->config.expire_ms)
            continue;
        memcpy(id, record->id, sizeof id);
        if (uploads_remove(uploads, record) == 0)
            log_event(uploads->log, LOG_LEVEL_NOTICE, "upload_expired", LOG_TEXT("upload", id));
    }
}

struct record *uploads_at(const struct uploads *uploads, const char *id, const char *viewer)
{
    for (size_t i = 0; i < uploads->n; i++) {
        struct record *record = uploads->records[i];
        if (strcmp(record->id, id) == 0 && (!viewer || strcmp(record->owner, viewer) == 0))
            return record;
    }
    return NULL;
}

int uploads_refuse(const struct uploads *uploads, int r, const char *id, struct problem *p)
{
    if (r == -ENOMEM)
        return error_nomem(p);
    if (r == -ENOSPC || r == -EDQUOT)
        return error_refuse(p, PROBLEM_DISK_FULL, NULL);
    log_event(uploads->log, LOG_LEVEL_WARNING, "upload_failed", LOG_TEXT("upload", id),
              LOG_TEXT("error", strerror(-r)));
    return error_refuse(p, PROBLEM_INTERNAL, NULL);
}

/* ---- by digest ---- */

bool uploads_find(const struct uploads *uploads, const char *digest, const char *viewer,
                  int64_t *bytesp)
{
    for (size_t i = 0; i < uploads->n; i++) {
        const struct record *record = uploads->records[i];
        if (!record->complete || strcmp(record->digest, digest) != 0 ||
            (viewer && strcmp(record->owner, viewer) != 0))
            continue;
        if (bytesp)
            *bytesp = record->bytes;
        return true;
    }
    return false;
}

int uploads_require(const struct uploads *uploads, const char *digest, const char *viewer,
                    const char *pointer, struct problem *p)
{
    if (uploads_find(uploads, digest, viewer, NULL))
        return 0;
    problem_invalid(p, pointer, ITEM_UNKNOWN_NAME,
                    "you have no complete upload of this digest: send the file to /uploads");
    return ERROR_REFUSED;
}

/* ---- answers ---- */

static void full_view(const struct uploads *uploads, const struct record *record,
                      struct upload_view *view)
{
    record_view(record, view);
    if (record->complete)
        return;
    view->piece_bytes = (int64_t)uploads->config.max_piece;
    view->expires_at = record->changed_at + uploads->config.expire_ms;
}

int uploads_answer(const struct uploads *uploads, const struct record *record,
                   struct answer *answer, struct problem *p)
{
    struct upload_view view;
    full_view(uploads, record, &view);
    answer->text = upload_view_encode(&view, &answer->size);
    return answer->text ? 0 : error_nomem(p);
}

int uploads_get(const struct uploads *uploads, const char *id, const char *viewer,
                struct upload_place *place, struct answer *answer, struct problem *p)
{
    const struct record *record = uploads_at(uploads, id, viewer);
    if (!record)
        return error_refuse(p, PROBLEM_NOT_FOUND, NULL);
    *place = (struct upload_place){ record->offset, record->bytes };
    return uploads_answer(uploads, record, answer, p);
}

int uploads_list(const struct uploads *uploads, const char *viewer, const char *digest,
                 const char *after, int limit, struct answer *answer, struct problem *p)
{
    struct upload_page page = { .n_data = 0 };
    size_t i = uploads->n;
    if (after) {
        const struct record *last = uploads_at(uploads, after, viewer);
        if (!last)
            return error_refuse(p, PROBLEM_BAD_REQUEST, "parameter after: no such upload");
        for (i = 0; uploads->records[i] != last;)
            i++;
    }
    page.data = calloc((size_t)limit, sizeof *page.data);
    if (!page.data)
        return error_nomem(p);
    while (i-- > 0) {
        const struct record *record = uploads->records[i];
        if ((viewer && strcmp(record->owner, viewer) != 0) ||
            (digest && strcmp(record->digest, digest) != 0))
            continue;
        if (page.n_data == (size_t)limit) {
            page.has_more = true;
            break;
        }
        full_view(uploads, record, &page.data[page.n_data++]);
    }
    answer->text = upload_page_encode(&page, &answer->size);
    free(page.data);
    return answer->text ? 0 : error_nomem(p);
}

/* ---- changes ---- */

static int check_quota(const struct uploads *uploads, const struct upload_spec *spec,
                       const char *owner, struct problem *p)
{
    const struct uploads_config *config = &uploads->config;
    uint64_t sum = (uint64_t)spec->bytes;
    int n = 0;
    if (sum > config->max_bytes)
        return error_refuse(p, PROBLEM_BODY_TOO_LARGE, "a file may have %" PRIu64 " bytes",
                            config->max_bytes);
    for (size_t i = 0; i < uploads->n; i++)
        if (strcmp(uploads->records[i]->owner, owner) == 0) {
            sum += (uint64_t)uploads->records[i]->bytes; /* each at most 2^40, and few */
            n++;
        }
    if (n >= UPLOADS_PER_OWNER)
        return error_refuse(p, PROBLEM_QUOTA_EXCEEDED, "there are %d of them", n);
    if (sum > config->per_owner)
        return error_refuse(p, PROBLEM_QUOTA_EXCEEDED,
                            "with this file they would be %" PRIu64 " of %" PRIu64 " bytes",
                            sum, config->per_owner);
    return 0;
}

static int make_record(const struct uploads *uploads, const struct upload_spec *spec,
                       const char *owner, struct record *record)
{
    uint8_t bytes[8];
    int64_t now = uploads->env->realtime_ms(uploads->env);
    int r = uploads->env->random(uploads->env, bytes, sizeof bytes);
    if (r < 0)
        return r;
    *record = (struct record){ .bytes = spec->bytes, .created_at = now, .changed_at = now };
    memcpy(record->id, "up_", 3);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(record->id + 3 + 2 * i, 3, "%02x", bytes[i]);
    snprintf(record->owner, sizeof record->owner, "%s", owner);
    snprintf(record->name, sizeof record->name, "%s", spec->name ? spec->name : "");
    snprintf(record->digest, sizeof record->digest, "%s", spec->digest);
    return 0;
}

/* The empty part first: a record without one would look finished. */
static int make_files(const struct uploads *uploads, const struct record *record)
{
    char name[UPLOAD_FILE_SIZE];
    record_file(record, "part", name);
    int fd = uploads->env->open(uploads->env, uploads->dir, name,
                                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fd;
    int r = uploads->env->fsync(uploads->env, fd);
    close(fd);
    if (r == 0)
        r = env_sync_dir(uploads->env, uploads->dir);
    if (r == 0)
        r = record_write(uploads->env, uploads->dir, record);
    if (r < 0) {
        uploads->env->unlink(uploads->env, uploads->dir, name);
        record_file(record, "json", name); /* it may be there: its folder was not synced */
        uploads->env->unlink(uploads->env, uploads->dir, name);
    }
    return r;
}

int uploads_create(struct uploads *uploads, const struct upload_spec *spec, const char *owner,
                   char *id, bool *created, struct answer *answer, struct problem *p)
{
    struct record record, *entry = NULL;
    *created = false;
    uploads_expire(uploads);
    for (size_t i = 0; i < uploads->n && !entry; i++)
        if (strcmp(uploads->records[i]->owner, owner) == 0 &&
            strcmp(uploads->records[i]->digest, spec->digest) == 0)
            entry = uploads->records[i];
    if (entry && entry->bytes != spec->bytes) {
        problem_invalid(p, "/bytes", ITEM_INVALID_VALUE,
                        "your upload %s of this digest has %" PRId64 " bytes", entry->id,
                        entry->bytes);
        return ERROR_REFUSED;
    }
    if (entry) {
        memcpy(id, entry->id, UPLOAD_ID_SIZE);
        return uploads_answer(uploads, entry, answer, p);
    }
    int r = check_quota(uploads, spec, owner, p);
    if (r)
        return r;
    r = make_record(uploads, spec, owner, &record);
    entry = r < 0 ? NULL : uploads_add(uploads, &record);
    if (!entry)
        return uploads_refuse(uploads, r < 0 ? r : -ENOMEM, NULL, p);
    memcpy(id, entry->id, UPLOAD_ID_SIZE);
    r = make_files(uploads, entry);
    if (r < 0) {
        forget(uploads, entry);
        return uploads_refuse(uploads, r, id, p);
    }
    *created = true;
    return uploads_answer(uploads, entry, answer, p);
}

int uploads_delete(struct uploads *uploads, const char *id, const char *viewer,
                   struct problem *p)
{
    const struct uploads_config *config = &uploads->config;
    struct record *record = uploads_at(uploads, id, viewer);
    if (!record)
        return error_refuse(p, PROBLEM_NOT_FOUND, NULL);
    if (record->busy)
        return error_refuse(p, PROBLEM_STATE_CONFLICT, "a piece of it is being written");
    if (record->complete && !is_shared(uploads, record) && config->in_use &&
        config->in_use(config->arg, record->digest))
        return error_refuse(p, PROBLEM_STATE_CONFLICT,
                            "a job that has not ended needs this file");
    int r = uploads_remove(uploads, record);
    return r < 0 ? uploads_refuse(uploads, r, id, p) : 0;
}
