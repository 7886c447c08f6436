#include "messages.h"

#include <string.h>

#include "budget.h"
#include "dataset.h"
#include "event.h"
#include "job.h"
#include "job_spec.h"

const struct proto_message *const proto_messages[] = {
    &job_spec_message,     &job_view_message,     &job_page_message,     &event_message,
    &event_page_message,   &dataset_spec_message, &dataset_view_message, &dataset_page_message,
    &budget_view_message,  &budget_change_message, &ledger_row_message,  &ledger_page_message,
    NULL
};

const struct proto_message *proto_message_find(const char *name, size_t len)
{
    for (size_t i = 0; proto_messages[i]; i++)
        if (strlen(proto_messages[i]->name) == len &&
            strncmp(proto_messages[i]->name, name, len) == 0)
            return proto_messages[i];
    return NULL;
}
