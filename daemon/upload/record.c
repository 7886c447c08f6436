#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "upload/internal.h"

enum { BLOCK = 1 << 20 };

void record_file(const struct record *record, const char *ending, char name[UPLOAD_FILE_SIZE])
{
    snprintf(name, UPLOAD_FILE_SIZE, "%s.%s", record->id, ending);
}

void blob_file(const char *digest, char name[UPLOAD_FILE_SIZE])
{
    snprintf(name, UPLOAD_FILE_SIZE, "%.64s.blob", digest + strlen("sha256:"));
}

void record_view(const struct record *record, struct upload_view *view)
{
    upload_view_init(view);
    view->id = record->id;
    view->owner = record->owner;
    view->name = record->name[0] != '\0' ? record->name : NULL;
    view->digest = record->digest;
    view->bytes = record->bytes;
    view->offset = record->offset;
    view->complete = record->complete;
    view->created_at = record->created_at;
    view->changed_at = record->changed_at;
}

int record_write(const struct env *env, int dir, const struct record *record)
{
    struct upload_view view;
    char name[UPLOAD_FILE_SIZE];
    size_t n = 0;
    record_view(record, &view);
    _cleanup_free_ char *text = upload_view_encode(&view, &n);
    if (!text)
        return -ENOMEM;
    record_file(record, "json", name);
    return env_write_file(env, dir, name, text, n, 0600);
}

static bool fits(const struct upload_view *view, const char *file)
{
    size_t n = strlen(view->id);
    return n == UPLOAD_ID_SIZE - 1 && strncmp(view->id, file, n) == 0 &&
           upload_digest_valid(view->digest) && strlen(view->owner) < UPLOAD_OWNER_SIZE &&
           (!view->name || strlen(view->name) < UPLOAD_NAME_SIZE) && view->bytes > 0 &&
           view->offset >= 0 && view->offset <= view->bytes;
}

int record_read(const struct env *env, int dir, const char *name, struct record *record)
{
    _cleanup_(upload_view_freep) struct upload_view *view = NULL;
    _cleanup_free_ char *text = NULL;
    struct problem p;
    size_t n = 0;
    int r = env_read_file(env, dir, name, UPLOAD_RECORD_MAX, &text, &n);
    if (r < 0)
        return r == -EFBIG ? -EBADMSG : r;
    problem_init(&p);
    if (upload_view_decode(&view, text, n, &p) != 0)
        return p.code == PROBLEM_OUT_OF_MEMORY ? -ENOMEM : -EBADMSG;
    if (!fits(view, name))
        return -EBADMSG;
    *record = (struct record){ .bytes = view->bytes,
                               .offset = view->offset,
                               .complete = view->complete,
                               .created_at = view->created_at,
                               .changed_at = view->changed_at };
    snprintf(record->id, sizeof record->id, "%s", view->id);
    snprintf(record->owner, sizeof record->owner, "%s", view->owner);
    snprintf(record->name, sizeof record->name, "%s", view->name ? view->name : "");
    snprintf(record->digest, sizeof record->digest, "%s", view->digest);
    return 0;
}

static int open_file(const struct env *env, int dir, const char *name, int flags, int64_t *sizep)
{
    struct stat st;
    int fd = env->open(env, dir, name, flags | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    int r = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EBADMSG;
    if (r < 0) {
        close(fd);
        return r;
    }
    *sizep = st.st_size;
    return fd;
}

int64_t file_size(const struct env *env, int dir, const char *name)
{
    int64_t size = 0;
    int fd = open_file(env, dir, name, O_RDONLY, &size);
    if (fd < 0)
        return fd;
    close(fd);
    return size;
}

int file_cut(const struct env *env, int dir, const char *name, int64_t n)
{
    int64_t size = 0;
    int fd = open_file(env, dir, name, O_WRONLY, &size);
    if (fd < 0)
        return fd;
    int r = size > n && ftruncate(fd, n) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static bool digest_is(crypto_hash_sha256_state *state, const char *digest)
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof sum + 1];
    crypto_hash_sha256_final(state, sum);
    sodium_bin2hex(hex, sizeof hex, sum, sizeof sum);
    return strcmp(hex, digest + strlen("sha256:")) == 0;
}

int file_has_digest(const struct env *env, int dir, const char *name, const char *digest)
{
    _cleanup_free_ unsigned char *block = malloc(BLOCK);
    crypto_hash_sha256_state state;
    int64_t size = 0;
    ssize_t n = 0;
    if (!block)
        return -ENOMEM;
    int fd = open_file(env, dir, name, O_RDONLY, &size);
    if (fd < 0)
        return fd;
    crypto_hash_sha256_init(&state);
    for (;;) {
        n = read(fd, block, BLOCK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        crypto_hash_sha256_update(&state, block, (unsigned long long)n);
    }
    int r = n < 0 ? -errno : 0;
    close(fd);
    return r < 0 ? r : digest_is(&state, digest);
}

int upload_read(const struct env *env, int dir, const char *digest, size_t max, char **datap,
                size_t *np)
{
    crypto_hash_sha256_state state;
    char name[UPLOAD_FILE_SIZE];
    _cleanup_free_ char *data = NULL;
    size_t n = 0;
    if (!upload_digest_valid(digest))
        return -ENOENT;
    blob_file(digest, name);
    int r = env_read_file(env, dir, name, max, &data, &n);
    if (r < 0)
        return r;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, (const unsigned char *)data, n);
    if (!digest_is(&state, digest))
        return -EBADMSG;
    *datap = steal(&data);
    *np = n;
    return 0;
}
