#include "proto/server.h"

#include "job.h"
#include "server.h"

const char *const user_role_names[] = { "",      "viewer",  "submitter", "custodian",
                                        "admin", "metrics", NULL };

static const struct proto_field version_fields[] = {
    { PROTO_AT(version_view, name), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(version_view, version), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(version_view, commit), .kind = PROTO_STRING },
    { PROTO_AT(version_view, started_at), .kind = PROTO_TIME },
};

const struct proto_message version_view_message = { .name = "Version",
                                                    .size = sizeof(struct version_view),
                                                    .fields = version_fields,
                                                    .n_fields =
                                                        PROTO_COUNT(version_fields) };

static const struct proto_field whoami_fields[] = {
    { PROTO_AT(whoami_view, owner), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(whoami_view, role), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = user_role_names },
    { PROTO_AT(whoami_view, via), .kind = PROTO_STRING },
};

const struct proto_message whoami_view_message = { .name = "Whoami",
                                                   .size = sizeof(struct whoami_view),
                                                   .fields = whoami_fields,
                                                   .n_fields = PROTO_COUNT(whoami_fields) };

static const struct proto_field entry_fields[] = {
    { PROTO_AT(queue_entry, id), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(queue_entry, owner), .kind = PROTO_STRING },
    { PROTO_AT(queue_entry, position), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(queue_entry, priority), .kind = PROTO_INT, .flags = PROTO_DEFAULT,
      .min = -1000, .max = 1000 },
    { PROTO_AT(queue_entry, queued_at), .kind = PROTO_TIME },
};

static const struct proto_message entry_message = { .name = "QueueEntry",
                                                    .size = sizeof(struct queue_entry),
                                                    .fields = entry_fields,
                                                    .n_fields = PROTO_COUNT(entry_fields) };

static const struct proto_field queue_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = list_text },
    { PROTO_AT(queue_view, running), .kind = PROTO_INT },
    { PROTO_AT(queue_view, queued), .kind = PROTO_INT },
    { PROTO_LIST(queue_view, data), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &entry_message },
};

const struct proto_message queue_view_message = { .name = "Queue",
                                                  .size = sizeof(struct queue_view),
                                                  .fields = queue_fields,
                                                  .n_fields = PROTO_COUNT(queue_fields) };

static const struct proto_field device_fields[] = {
    { PROTO_AT(device_view, id), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(device_view, name), .kind = PROTO_STRING },
    { PROTO_AT(device_view, cores), .kind = PROTO_INT },
    { PROTO_AT(device_view, memory_bytes), .kind = PROTO_INT },
    { PROTO_AT(device_view, available), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
    { PROTO_AT(device_view, detail), .kind = PROTO_STRING },
    { PROTO_AT(device_view, jobs), .kind = PROTO_INT },
};

static const struct proto_message device_message = { .name = "Device",
                                                     .size = sizeof(struct device_view),
                                                     .fields = device_fields,
                                                     .n_fields =
                                                         PROTO_COUNT(device_fields) };

static const struct proto_field list_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = list_text },
    { PROTO_LIST(device_list, data), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &device_message },
};

const struct proto_message device_list_message = { .name = "DeviceList",
                                                   .size = sizeof(struct device_list),
                                                   .fields = list_fields,
                                                   .n_fields = PROTO_COUNT(list_fields) };

static const struct proto_field check_fields[] = {
    { PROTO_AT(ready_check, name), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(ready_check, ok), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
    { PROTO_AT(ready_check, detail), .kind = PROTO_STRING },
};

static const struct proto_message check_message = { .name = "ReadyCheck",
                                                    .size = sizeof(struct ready_check),
                                                    .fields = check_fields,
                                                    .n_fields = PROTO_COUNT(check_fields) };

static const struct proto_field ready_fields[] = {
    { PROTO_AT(ready_view, ready), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
    { PROTO_LIST(ready_view, checks), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &check_message },
};

const struct proto_message ready_view_message = { .name = "Ready",
                                                  .size = sizeof(struct ready_view),
                                                  .fields = ready_fields,
                                                  .n_fields = PROTO_COUNT(ready_fields) };

PROTO_DEFINE_LENIENT(version_view, version_view_message)
PROTO_DEFINE_LENIENT(whoami_view, whoami_view_message)
PROTO_DEFINE_LENIENT(queue_view, queue_view_message)
PROTO_DEFINE_LENIENT(device_list, device_list_message)
PROTO_DEFINE_LENIENT(ready_view, ready_view_message)

const char *user_role_name(enum user_role role)
{
    return (unsigned)role < PROTO_COUNT(user_role_names) - 1 ? user_role_names[role] : "";
}

enum user_role user_role_parse(const char *text)
{
    return (enum user_role)proto_enum_parse(user_role_names, text);
}
