#include "proto/upload.h"

#include <string.h>

#include "job.h"
#include "upload.h"

#define UPLOAD_BYTES_MAX 1099511627776.0 /* 2^40 */

bool upload_digest_valid(const char *text)
{
    return strncmp(text, "sha256:", 7) == 0 && strlen(text) == UPLOAD_DIGEST_SIZE - 1 &&
           strspn(text + 7, "0123456789abcdef") == 64;
}

static const struct proto_field spec_fields[] = {
    { PROTO_AT(upload_spec, digest), .kind = PROTO_STRING, .flags = PROTO_REQUIRED, .min = 1,
      .max = 71 },
    { PROTO_AT(upload_spec, bytes), .kind = PROTO_INT, .flags = PROTO_REQUIRED, .min = 1,
      .max = UPLOAD_BYTES_MAX },
    { PROTO_AT(upload_spec, name), .kind = PROTO_STRING, .min = 1, .max = 128 },
};

static void spec_check(struct proto_decoder *d, void *message)
{
    const struct upload_spec *spec = message;
    if (!upload_digest_valid(spec->digest))
        proto_fail_member(d, "digest", ITEM_INVALID_VALUE,
                          "must be sha256: and 64 hex digits in lower case");
}

const struct proto_message upload_spec_message = { .name = "UploadSpec",
                                                   .size = sizeof(struct upload_spec),
                                                   .fields = spec_fields,
                                                   .n_fields = PROTO_COUNT(spec_fields),
                                                   .check = spec_check };

static const struct proto_field view_fields[] = {
    { PROTO_AT(upload_view, id), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(upload_view, owner), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(upload_view, name), .kind = PROTO_STRING },
    { PROTO_AT(upload_view, digest), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(upload_view, bytes), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(upload_view, offset), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(upload_view, complete), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
    { PROTO_AT(upload_view, piece_bytes), .kind = PROTO_INT },
    { PROTO_AT(upload_view, created_at), .kind = PROTO_TIME },
    { PROTO_AT(upload_view, changed_at), .kind = PROTO_TIME },
    { PROTO_AT(upload_view, expires_at), .kind = PROTO_TIME },
};

const struct proto_message upload_view_message = { .name = "Upload",
                                                   .size = sizeof(struct upload_view),
                                                   .fields = view_fields,
                                                   .n_fields = PROTO_COUNT(view_fields) };

static const struct proto_field page_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = list_text },
    { PROTO_LIST(upload_page, data), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &upload_view_message },
    { PROTO_AT(upload_page, has_more), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
};

const struct proto_message upload_page_message = { .name = "UploadPage",
                                                   .size = sizeof(struct upload_page),
                                                   .fields = page_fields,
                                                   .n_fields = PROTO_COUNT(page_fields) };

PROTO_DEFINE_STRICT(upload_spec, upload_spec_message)
PROTO_DEFINE_LENIENT(upload_view, upload_view_message)
PROTO_DEFINE_LENIENT(upload_page, upload_page_message)

void upload_view_init(struct upload_view *upload)
{
    memset(upload, 0, sizeof *upload);
    proto_defaults(&upload_view_message, upload, 0);
}
