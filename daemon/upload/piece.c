/* One piece of a file, from memory to the disk. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "upload/internal.h"

struct upload_piece {
    struct uploads *uploads;
    struct record *entry; /* the loop's; its files are ours while it is busy */
    struct record record; /* as it will be; what is on the disk once r is 0 */
    char *data;
    size_t n;
    int64_t now;
    int r; /* 0, negative errno, or 1: the whole file has another digest */
};

static int check(const struct record *record, int64_t offset, size_t n, struct problem *p)
{
    if (record->busy)
        return error_refuse(p, PROBLEM_STATE_CONFLICT, "another piece of it is being written");
    if (record->complete)
        return error_refuse(p, PROBLEM_STATE_CONFLICT, "the upload is complete");
    if (offset != record->offset)
        return error_refuse(p, PROBLEM_STATE_CONFLICT,
                            "the next piece begins at byte %" PRId64, record->offset);
    if (n > (uint64_t)(record->bytes - record->offset))
        return error_refuse(p, PROBLEM_BODY_TOO_LARGE,
                            "the file has %" PRId64 " more bytes, the piece %zu",
                            record->bytes - record->offset, n);
    if (n == 0)
        return error_refuse(p, PROBLEM_BAD_REQUEST, "the piece is empty");
    return 0;
}

int upload_piece_begin(struct uploads *uploads, const char *id, const char *viewer,
                       int64_t offset, char *data, size_t n, struct upload_piece **piecep,
                       struct upload_place *place, struct problem *p)
{
    struct record *record = uploads_at(uploads, id, viewer);
    int r = record ? check(record, offset, n, p) : error_refuse(p, PROBLEM_NOT_FOUND, NULL);
    if (record && place)
        *place = (struct upload_place){ record->offset, record->bytes };
    struct upload_piece *piece = r == 0 ? calloc(1, sizeof *piece) : NULL;
    if (!piece) {
        free(data);
        return r ? r : error_nomem(p);
    }
    record->busy = true;
    *piece = (struct upload_piece){ .uploads = uploads,
                                    .entry = record,
                                    .record = *record,
                                    .data = data,
                                    .n = n,
                                    .now = uploads->env->realtime_ms(uploads->env),
                                    .r = -ECANCELED };
    *piecep = piece;
    return 0;
}

static int append(const struct env *env, int dir, const char *name, int64_t offset,
                  const char *data, size_t n)
{
    int fd = env->open(env, dir, name, O_WRONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    /* what an earlier try has left is not part of the file */
    int r = ftruncate(fd, offset) < 0 || lseek(fd, offset, SEEK_SET) < 0 ? -errno : 0;
    while (r == 0 && n > 0) {
        ssize_t put = env->write(env, fd, data, n);
        if (put <= 0) {
            r = put < 0 ? (int)put : -EIO;
            break;
        }
        data += put;
        n -= (size_t)put;
    }
    if (r == 0)
        r = env->fsync(env, fd);
    if (r < 0 && ftruncate(fd, offset) < 0)
        r = -errno; /* the room was wanted back */
    if (close(fd) < 0 && r == 0)
        r = -errno;
    return r;
}

/* All bytes are there: the part becomes the blob, or is emptied when it is not the file that was
 * announced. 0, 1 or a negative errno. */
static int finish(const struct env *env, int dir, const struct record *record, const char *part)
{
    char blob[UPLOAD_FILE_SIZE];
    int r = file_has_digest(env, dir, part, record->digest);
    if (r < 0)
        return r;
    if (r == 0)
        return 1;
    blob_file(record->digest, blob);
    r = env->rename(env, dir, part, blob); /* the same bytes, if another owner has it already */
    return r < 0 ? r : env_sync_dir(env, dir);
}

void upload_piece_write(struct upload_piece *piece)
{
    const struct env *env = piece->uploads->env;
    struct record *record = &piece->record;
    int dir = piece->uploads->dir;
    char part[UPLOAD_FILE_SIZE], blob[UPLOAD_FILE_SIZE];
    bool last = record->offset + (int64_t)piece->n == record->bytes;
    record_file(record, "part", part);
    blob_file(record->digest, blob);
    piece->r = append(env, dir, part, record->offset, piece->data, piece->n);
    if (piece->r == 0 && last)
        piece->r = finish(env, dir, record, part);
    else if (piece->r == -ENOENT && last && file_size(env, dir, blob) == record->bytes)
        piece->r = env_sync_dir(env, dir); /* an earlier try came as far as the blob */
    bool wrong = piece->r == 1;
    if (piece->r < 0)
        return;
    record->offset = wrong ? 0 : record->offset + (int64_t)piece->n;
    record->complete = last && !wrong;
    record->changed_at = piece->now;
    int r = record_write(env, dir, record);
    if (r < 0)
        piece->r = r;
    else if (wrong)
        file_cut(env, dir, part, 0); /* to give the room back: the record says it is empty */
}

/* The loop's record takes over what the disk has. */
static void take_over(struct upload_piece *piece)
{
    if (!piece->entry)
        return;
    if (piece->r >= 0)
        *piece->entry = piece->record;
    piece->entry->busy = false;
}

int upload_piece_end(struct upload_piece *piece, struct upload_place *place,
                     struct answer *answer, struct problem *p)
{
    struct uploads *uploads = piece->uploads;
    struct record *entry = piece->entry;
    take_over(piece);
    piece->entry = NULL;
    *place = (struct upload_place){ entry->offset, entry->bytes };
    if (piece->r < 0)
        return uploads_refuse(uploads, piece->r, entry->id, p);
    if (piece->r == 1) {
        problem_invalid(p, "", ITEM_FILE, "what was sent does not have the digest %s: it is "
                        "forgotten, begin again at byte 0", entry->digest);
        return ERROR_REFUSED;
    }
    if (entry->complete)
        log_event(uploads->log, LOG_LEVEL_INFO, "upload_complete",
                  LOG_TEXT("upload", entry->id), LOG_INT("bytes", entry->bytes));
    return uploads_answer(uploads, entry, answer, p);
}

struct upload_piece *upload_piece_free(struct upload_piece *piece)
{
    if (!piece)
        return NULL;
    take_over(piece);
    free(piece->data);
    free(piece);
    return NULL;
}
