/* Files that clients send, kept by what is in them.
 *
 *   POST   -> ID.json (a record), ID.part (empty)
 *   PATCH  -> a piece at the end of ID.part: write, fsync, then the record with the new offset
 *   the last piece -> digest of what is on the disk -> ID.part becomes HEX.blob, ID.json complete
 *
 * The folder uploads/ in the state folder is all there is. A record that says "offset n" means
 * that n bytes survive a power cut; what lies beyond is cut off at the next start. Several
 * owners may have records of one blob; each has sent all of its bytes, so that a digest alone
 * gives nobody a file. The blob goes with its last record. What no record names is swept at the
 * start, and so are records whose file is gone; unfinished uploads expire.
 *
 * Functions return 0, or ERROR_REFUSED with *p filled. Thread: the loop's, except where a comment
 * says otherwise. */
#ifndef DAEMON_UPLOAD_UPLOAD_H
#define DAEMON_UPLOAD_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"
#include "base/env.h"
#include "base/log.h"
#include "proto/upload.h"

struct uploads;

/* "up_" and 16 hex digits, with its NUL */
enum { UPLOAD_ID_SIZE = 20, UPLOADS_PER_OWNER = 1000 };

struct uploads_config {
    uint64_t max_bytes; /* of one file */
    uint64_t per_owner; /* bytes of all the uploads of one owner, unfinished ones in full */
    uint64_t max_piece; /* bytes of one PATCH, told to clients */
    int64_t expire_ms;  /* unfinished and without a new piece for so long: removed */
    /* Whether a job that has not ended needs this digest; NULL: none does. */
    bool (*in_use)(void *arg, const char *digest);
    void *arg;
};

/* 0, or a negative errno with a sentence in why. */
int uploads_open(struct uploads **uploadsp, const struct env *env, int state_dir,
                 const struct uploads_config *config, const struct log *log, char *why,
                 size_t size);
struct uploads *uploads_close(struct uploads *uploads); /* takes NULL, returns NULL */
void uploads_reconfigure(struct uploads *uploads, const struct uploads_config *config);
/* Removes what has expired. */
void uploads_expire(struct uploads *uploads);

/* ---- for jobs: files by digest ---- */

/* A complete upload of this digest ("sha256:...") that viewer may use: NULL sees all, otherwise
 * its own. *bytesp (may be NULL) is its size. false: there is none. */
bool uploads_find(const struct uploads *uploads, const char *digest, const char *viewer,
                  int64_t *bytesp);

/* As uploads_find, but refuses with a problem at this JSON pointer. */
int uploads_require(const struct uploads *uploads, const char *digest, const char *viewer,
                    const char *pointer, struct problem *p);

/* The folder, for upload_read() on a thread; valid until uploads_close(). */
int uploads_dir(const struct uploads *uploads);

/* Reads a blob into *datap (malloc; the caller frees it) and checks its digest. 0 or a negative errno:
 * -ENOENT, -EFBIG (more than max bytes), -EBADMSG (the bytes are not those of the digest).
 * Thread: any. */
int upload_read(const struct env *env, int dir, const char *digest, size_t max, char **datap,
                size_t *np);

/* ---- for HTTP ---- */

/* upload_view. *created: false when the owner had one of this digest, which is answered. id:
 * UPLOAD_ID_SIZE bytes. */
int uploads_create(struct uploads *uploads, const struct upload_spec *spec, const char *owner,
                   char *id, bool *created, struct answer *answer, struct problem *p);

struct upload_place {
    int64_t offset, bytes;
};

/* upload_view, and where it stands */
int uploads_get(const struct uploads *uploads, const char *id, const char *viewer,
                struct upload_place *place, struct answer *answer, struct problem *p);

/* upload_page, newest first; digest NULL: any; after NULL: the first page */
int uploads_list(const struct uploads *uploads, const char *viewer, const char *digest,
                 const char *after, int limit, struct answer *answer, struct problem *p);

int uploads_delete(struct uploads *uploads, const char *id, const char *viewer,
                   struct problem *p);

/* A piece on its way to the disk. While there is one, its upload takes no other and cannot be
 * deleted. */
struct upload_piece;

/* Takes data (malloc), on refusal too. place (may be NULL): where the upload stands, also when it is
 * refused because the offset is another. */
int upload_piece_begin(struct uploads *uploads, const char *id, const char *viewer,
                       int64_t offset, char *data, size_t n, struct upload_piece **piecep,
                       struct upload_place *place, struct problem *p);
/* Writes it and makes it durable; with the last one checks the digest. Thread: any. */
void upload_piece_write(struct upload_piece *piece);
/* What came of it: upload_view and where the upload stands now. */
int upload_piece_end(struct upload_piece *piece, struct upload_place *place,
                     struct answer *answer, struct problem *p);
/* After upload_piece_write, with or without upload_piece_end; takes NULL, returns NULL. */
struct upload_piece *upload_piece_free(struct upload_piece *piece);

#endif
