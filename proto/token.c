#include "proto/token.h"

#include <string.h>

#include "job.h"
#include "server.h"
#include "token.h"

#define TEN_YEARS_S (10.0 * 366 * 86400)

static const struct proto_field spec_fields[] = {
    { PROTO_AT(token_spec, owner), .kind = PROTO_STRING, .flags = PROTO_REQUIRED, .min = 1,
      .max = 64 },
    { PROTO_AT(token_spec, role), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = user_role_names },
    { PROTO_AT(token_spec, expires_in), .kind = PROTO_DURATION, .min = 1,
      .max = TEN_YEARS_S },
};

static void spec_check(struct proto_decoder *d, void *message)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._@-";
    const struct token_spec *spec = message;
    if (spec->owner[strspn(spec->owner, allowed)])
        proto_fail_member(d, "owner", ITEM_INVALID_VALUE,
                          "must be letters, digits and . _ @ -");
}

const struct proto_message token_spec_message = { .name = "TokenSpec",
                                                  .size = sizeof(struct token_spec),
                                                  .fields = spec_fields,
                                                  .n_fields = PROTO_COUNT(spec_fields),
                                                  .check = spec_check };

static const struct proto_field view_fields[] = {
    { PROTO_AT(token_view, id), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(token_view, owner), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(token_view, role), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = user_role_names },
    { PROTO_AT(token_view, created_at), .kind = PROTO_TIME },
    { PROTO_AT(token_view, expires_at), .kind = PROTO_TIME, .flags = PROTO_NULLABLE },
    { PROTO_AT(token_view, token), .kind = PROTO_STRING },
};

const struct proto_message token_view_message = { .name = "Token",
                                                  .size = sizeof(struct token_view),
                                                  .fields = view_fields,
                                                  .n_fields = PROTO_COUNT(view_fields) };

static const struct proto_field list_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = list_text },
    { PROTO_LIST(token_list, data), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &token_view_message },
    { PROTO_AT(token_list, has_more), .kind = PROTO_BOOL },
};

const struct proto_message token_list_message = { .name = "TokenList",
                                                  .size = sizeof(struct token_list),
                                                  .fields = list_fields,
                                                  .n_fields = PROTO_COUNT(list_fields) };

PROTO_DEFINE_STRICT(token_spec, token_spec_message)
PROTO_DEFINE_LENIENT(token_view, token_view_message)
PROTO_DEFINE_LENIENT(token_list, token_list_message)

void token_view_init(struct token_view *token)
{
    memset(token, 0, sizeof *token);
    proto_defaults(&token_view_message, token, 0);
}
