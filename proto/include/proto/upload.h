/* Files that a client sends: POST /uploads (strict), GET /uploads[/{id}]. A finished one is
 * named by its digest, "sha256:" and 64 hex digits. */
#ifndef PROTO_UPLOAD_H
#define PROTO_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/problem.h"

enum { UPLOAD_DIGEST_SIZE = 72 }; /* with its NUL */

/* Whether text is "sha256:" and 64 lower-case hex digits. */
bool upload_digest_valid(const char *text);

struct upload_spec {
    const char *digest; /* of the whole file */
    int64_t bytes;      /* 1 to 2^40 */
    const char *name;   /* for people, up to 128 bytes; NULL: none */
};

struct upload_view {
    const char *id;
    const char *owner;
    const char *name;
    const char *digest;
    int64_t bytes;
    int64_t offset; /* bytes that are on the disk; the next piece begins here */
    bool complete;
    int64_t piece_bytes; /* the most that one PATCH may carry; -1: not told */
    int64_t created_at;  /* milliseconds since 1970 */
    int64_t changed_at;
    int64_t expires_at; /* when an unfinished one is removed; -1: never */
};

struct upload_page {
    size_t n_data;
    struct upload_view *data;
    bool has_more;
};

int upload_spec_decode(struct upload_spec **p, const char *text, size_t len,
                       struct problem *problem);
char *upload_spec_encode(const struct upload_spec *spec, size_t *lenp);
struct upload_spec *upload_spec_free(struct upload_spec *spec);
void upload_spec_freep(struct upload_spec **p);

void upload_view_init(struct upload_view *upload);
int upload_view_decode(struct upload_view **p, const char *text, size_t len,
                       struct problem *problem);
char *upload_view_encode(const struct upload_view *upload, size_t *lenp);
struct upload_view *upload_view_free(struct upload_view *upload);
void upload_view_freep(struct upload_view **p);

int upload_page_decode(struct upload_page **p, const char *text, size_t len,
                       struct problem *problem);
char *upload_page_encode(const struct upload_page *page, size_t *lenp);
struct upload_page *upload_page_free(struct upload_page *page);
void upload_page_freep(struct upload_page **p);

#endif
