#include "messages.h"

#include <string.h>

#include "artifact.h"
#include "budget.h"
#include "dataset.h"
#include "event.h"
#include "job.h"
#include "job_spec.h"
#include "plan.h"
#include "server.h"
#include "token.h"
#include "upload.h"

const struct proto_message *const proto_messages[] = {
    &job_spec_message,      &job_view_message,      &job_page_message,
    &event_message,         &event_page_message,    &dataset_spec_message,
    &dataset_view_message,  &dataset_page_message,  &budget_view_message,
    &budget_change_message, &ledger_import_message, &ledger_row_message,    &ledger_page_message,
    &plan_view_message,     &artifact_view_message, &artifact_page_message,
    &version_view_message,  &whoami_view_message,   &queue_view_message,
    &device_list_message,   &ready_view_message,    &token_spec_message,
    &token_view_message,    &token_list_message,    &upload_spec_message,
    &upload_view_message,   &upload_page_message,   NULL
};

const struct proto_message *proto_message_find(const char *name, size_t len)
{
    for (size_t i = 0; proto_messages[i]; i++)
        if (strlen(proto_messages[i]->name) == len &&
            strncmp(proto_messages[i]->name, name, len) == 0)
            return proto_messages[i];
    return NULL;
}
