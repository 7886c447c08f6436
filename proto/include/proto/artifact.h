/* What a job leaves behind: GET /jobs/{id}/artifacts. */
#ifndef PROTO_ARTIFACT_H
#define PROTO_ARTIFACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/problem.h"

struct artifact_view {
    const char *name; /* model.safetensors, privacy.json, job.json, metrics.csv */
    int64_t bytes;
    const char *sha256; /* 64 hex digits, also the ETag */
    const char *media_type;
    int64_t created_at; /* milliseconds since 1970 */
};

struct artifact_page {
    size_t n_data;
    struct artifact_view *data;
    bool has_more;
};

void artifact_view_init(struct artifact_view *artifact);
int artifact_page_decode(struct artifact_page **p, const char *text, size_t len,
                         struct problem *problem);
char *artifact_page_encode(const struct artifact_page *page, size_t *lenp);
struct artifact_page *artifact_page_free(struct artifact_page *page);
void artifact_page_freep(struct artifact_page **p);

#endif
