#include "proto/artifact.h"

#include <string.h>

#include "artifact.h"
#include "job.h"

static const struct proto_field artifact_fields[] = {
    { PROTO_AT(artifact_view, name), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(artifact_view, bytes), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(artifact_view, sha256), .kind = PROTO_STRING },
    { PROTO_AT(artifact_view, media_type), .kind = PROTO_STRING },
    { PROTO_AT(artifact_view, created_at), .kind = PROTO_TIME },
};

const struct proto_message artifact_view_message = { .name = "Artifact",
                                                     .size = sizeof(struct artifact_view),
                                                     .fields = artifact_fields,
                                                     .n_fields =
                                                         PROTO_COUNT(artifact_fields) };

static const struct proto_field page_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = list_text },
    { PROTO_LIST(artifact_page, data), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &artifact_view_message },
    { PROTO_AT(artifact_page, has_more), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
};

const struct proto_message artifact_page_message = { .name = "ArtifactPage",
                                                     .size = sizeof(struct artifact_page),
                                                     .fields = page_fields,
                                                     .n_fields = PROTO_COUNT(page_fields) };

PROTO_DEFINE_LENIENT(artifact_page, artifact_page_message)

void artifact_view_init(struct artifact_view *artifact)
{
    memset(artifact, 0, sizeof *artifact);
    proto_defaults(&artifact_view_message, artifact, 0);
}
