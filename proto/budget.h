#ifndef PROTO_BUDGET_FIELDS_H
#define PROTO_BUDGET_FIELDS_H

#include "field.h"

extern const struct proto_message budget_view_message;
extern const struct proto_message budget_change_message;
extern const struct proto_message ledger_import_message;
extern const struct proto_message ledger_row_message;
extern const struct proto_message ledger_page_message;

#endif
