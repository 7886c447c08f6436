/* What the files of this folder share. */
#ifndef DAEMON_UPLOAD_INTERNAL_H
#define DAEMON_UPLOAD_INTERNAL_H

#include "base/error.h"
#include "upload/upload.h"

enum {
    UPLOAD_OWNER_SIZE = 65,
    UPLOAD_NAME_SIZE = 129,
    UPLOAD_FILE_SIZE = 80, /* of a name in the folder */
    UPLOAD_RECORD_MAX = 4096
};

struct record {
    char id[UPLOAD_ID_SIZE];
    char owner[UPLOAD_OWNER_SIZE];
    char name[UPLOAD_NAME_SIZE]; /* "": none */
    char digest[UPLOAD_DIGEST_SIZE];
    int64_t bytes, offset;
    int64_t created_at, changed_at;
    bool complete;
    bool busy; /* a piece is on its way: the record's files belong to its thread */
};

struct uploads {
    const struct env *env;
    const struct log *log;
    struct uploads_config config;
    int dir;
    struct record **records; /* [n], oldest first */
    size_t n, cap;
};

/* ---- record.c: names of files, records on the disk; any thread ---- */

void record_file(const struct record *record, const char *ending, char name[UPLOAD_FILE_SIZE]);
void blob_file(const char *digest, char name[UPLOAD_FILE_SIZE]);

/* The view without what the configuration says. Points into the record. */
void record_view(const struct record *record, struct upload_view *view);

int record_write(const struct env *env, int dir, const struct record *record);
/* 0, -EBADMSG for a file that is none, or a negative errno. */
int record_read(const struct env *env, int dir, const char *name, struct record *record);

/* Size of a regular file, or a negative errno. */
int64_t file_size(const struct env *env, int dir, const char *name);
/* Cuts a file to n bytes. */
int file_cut(const struct env *env, int dir, const char *name, int64_t n);
/* Whether the bytes of the file have the digest: 1, 0, or a negative errno. */
int file_has_digest(const struct env *env, int dir, const char *name, const char *digest);

/* ---- sweep.c ---- */

/* Reads what is in the folder, and puts it in order. 0 or a negative errno. */
int uploads_load(struct uploads *uploads);

/* ---- upload.c ---- */

/* Takes a copy. NULL: out of memory. */
struct record *uploads_add(struct uploads *uploads, const struct record *record);
/* Forgets the record, and removes its files. 0 or a negative errno: then nothing has changed. */
int uploads_remove(struct uploads *uploads, struct record *record);
struct record *uploads_at(const struct uploads *uploads, const char *id, const char *viewer);
int uploads_answer(const struct uploads *uploads, const struct record *record,
                   struct answer *answer, struct problem *p);
/* A refusal for an errno: 507 for a full disk, else 500, which is logged. */
int uploads_refuse(const struct uploads *uploads, int r, const char *id, struct problem *p);

#endif
