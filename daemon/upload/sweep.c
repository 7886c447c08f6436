/* What is in the folder at the start. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "upload/internal.h"

static bool ends_in(const char *name, const char *ending)
{
    size_t n = strlen(name), k = strlen(ending);
    return n > k && strcmp(name + n - k, ending) == 0;
}

static void remove_file(const struct uploads *uploads, const char *name, const char *why)
{
    int r = uploads->env->unlink(uploads->env, uploads->dir, name);
    log_event(uploads->log, LOG_LEVEL_NOTICE, "upload_swept", LOG_TEXT("file", name),
              LOG_TEXT("why", why), LOG_TEXT("error", r < 0 ? strerror(-r) : NULL));
}

/* Makes record and files agree. 1: the record is of no use; 0, or a negative errno. */
static int settle(const struct uploads *uploads, struct record *record)
{
    char part[UPLOAD_FILE_SIZE], blob[UPLOAD_FILE_SIZE];
    record_file(record, "part", part);
    blob_file(record->digest, blob);
    int64_t n = file_size(uploads->env, uploads->dir, part);
    if (!record->complete && n >= 0) {
        if (n < record->offset)
            record->offset = n; /* somebody else has cut it; the digest has the last word */
        return file_cut(uploads->env, uploads->dir, part, record->offset);
    }
    if (!record->complete && n != -ENOENT)
        return (int)n;
    /* an unfinished one without a part: it became the blob, and the record was not written */
    n = file_size(uploads->env, uploads->dir, blob);
    if (n == -ENOENT || (n >= 0 && n != record->bytes))
        return 1;
    if (n < 0)
        return (int)n;
    bool told = record->complete;
    record->complete = true;
    record->offset = record->bytes;
    return told ? 0 : record_write(uploads->env, uploads->dir, record);
}

static int load_record(struct uploads *uploads, const char *name)
{
    struct record record;
    int r = record_read(uploads->env, uploads->dir, name, &record);
    if (r == -EBADMSG) {
        remove_file(uploads, name, "is no record");
        return 0;
    }
    if (r == 0)
        r = settle(uploads, &record);
    if (r == 1) {
        remove_file(uploads, name, "its file is gone");
        return 0;
    }
    if (r < 0)
        return r;
    return uploads_add(uploads, &record) ? 0 : -ENOMEM;
}

static bool is_needed(const struct uploads *uploads, const char *name)
{
    char own[UPLOAD_FILE_SIZE];
    for (size_t i = 0; i < uploads->n; i++) {
        const struct record *record = uploads->records[i];
        record_file(record, "part", own);
        if (!record->complete && strcmp(own, name) == 0)
            return true;
        blob_file(record->digest, own);
        if (record->complete && strcmp(own, name) == 0)
            return true;
    }
    return false;
}

static int look(struct uploads *uploads, const char *name, bool records)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 0;
    if (records)
        return ends_in(name, ".json") ? load_record(uploads, name) : 0;
    if (ends_in(name, ".tmp") ||
        ((ends_in(name, ".part") || ends_in(name, ".blob")) && !is_needed(uploads, name)))
        remove_file(uploads, name, "no record names it");
    return 0;
}

/* Entries that are removed meanwhile, or renamed from .json.tmp, do no harm: a name is looked at for
 * what it is now. */
static int walk(struct uploads *uploads, bool records)
{
    int copy = openat(uploads->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    int r = 0;
    if (!d) {
        r = -errno;
        if (copy >= 0)
            close(copy);
        return r;
    }
    for (struct dirent *e; r == 0 && (e = readdir(d));)
        r = look(uploads, e->d_name, records);
    closedir(d);
    return r;
}

int uploads_load(struct uploads *uploads)
{
    int r = walk(uploads, true);
    return r < 0 ? r : walk(uploads, false);
}
