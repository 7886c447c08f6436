#include "proto/budget.h"

#include <string.h>

#include "budget.h"
#include "job.h"

static const char *const ledger_kinds[] = { "",       "open",    "reserve",   "lease",
                                            "settle", "release", "raise_cap", "import",
                                            "freeze", "thaw",    NULL };

static const struct proto_field order_fields[] = {
    { PROTO_AT(budget_order, order), .kind = PROTO_REAL, .flags = PROTO_REQUIRED },
    { PROTO_AT(budget_order, cap), .kind = PROTO_REAL, .flags = PROTO_REQUIRED },
    { PROTO_AT(budget_order, spent), .kind = PROTO_REAL, .flags = PROTO_REQUIRED },
    { PROTO_AT(budget_order, leased), .kind = PROTO_REAL },
    { PROTO_AT(budget_order, reserved), .kind = PROTO_REAL },
};

static const struct proto_message order_message = { .name = "BudgetOrder",
                                                    .size = sizeof(struct budget_order),
                                                    .fields = order_fields,
                                                    .n_fields = PROTO_COUNT(order_fields) };

static const struct proto_field view_fields[] = {
    { PROTO_AT(budget_view, dataset), .kind = PROTO_STRING },
    { PROTO_AT(budget_view, epsilon), .kind = PROTO_REAL, .flags = PROTO_REQUIRED },
    { PROTO_AT(budget_view, delta), .kind = PROTO_REAL, .flags = PROTO_REQUIRED },
    { PROTO_AT(budget_view, spent), .kind = PROTO_REAL, .flags = PROTO_REQUIRED },
    { PROTO_AT(budget_view, reserved), .kind = PROTO_REAL },
    { PROTO_AT(budget_view, available), .kind = PROTO_REAL },
    { PROTO_AT(budget_view, frozen), .kind = PROTO_BOOL },
    { PROTO_AT(budget_view, jobs), .kind = PROTO_INT },
    { PROTO_LIST(budget_view, orders), .kind = PROTO_OBJECTS, .message = &order_message },
};

const struct proto_message budget_view_message = { .name = "Budget",
                                                   .size = sizeof(struct budget_view),
                                                   .fields = view_fields,
                                                   .n_fields = PROTO_COUNT(view_fields) };

static void frozen_decode(struct proto_decoder *d, const json_t *value, void *member)
{
    if (!json_is_boolean(value))
        proto_fail(d, ITEM_WRONG_TYPE, "must be true or false");
    *(int64_t *)member = json_is_true(value);
}

static bool frozen_present(const void *member)
{
    return *(const int64_t *)member >= 0;
}

static void frozen_encode(struct proto_writer *w, const void *member)
{
    writer_bool(w, *(const int64_t *)member == 1);
}

static void frozen_absent(void *member)
{
    *(int64_t *)member = -1;
}

static const struct proto_custom frozen_custom = { frozen_decode, frozen_present,
                                                   frozen_encode, frozen_absent };

static const struct proto_field change_fields[] = {
    { PROTO_AT(budget_change, epsilon), .kind = PROTO_REAL, .flags = PROTO_ABOVE,
      .max = 1e6 },
    { PROTO_AT(budget_change, frozen), .kind = PROTO_CUSTOM, .custom = &frozen_custom },
    { PROTO_AT(budget_change, reason), .kind = PROTO_STRING, .flags = PROTO_REQUIRED,
      .min = 1, .max = 1024 },
};

static void change_check(struct proto_decoder *d, void *message)
{
    const struct budget_change *c = message;
    if (isnan(c->epsilon) && c->frozen < 0)
        proto_fail(d, ITEM_MISSING_MEMBER, "needs epsilon, frozen, or both");
}

const struct proto_message budget_change_message = { .name = "BudgetChange",
                                                     .size = sizeof(struct budget_change),
                                                     .fields = change_fields,
                                                     .n_fields = PROTO_COUNT(change_fields),
                                                     .check = change_check };

static const struct proto_field event_fields[] = {
    { PROTO_AT(ledger_event, sample_rate), .kind = PROTO_REAL,
      .flags = PROTO_REQUIRED | PROTO_ABOVE, .max = 1 },
    { PROTO_AT(ledger_event, noise_multiplier), .kind = PROTO_REAL,
      .flags = PROTO_REQUIRED | PROTO_ABOVE, .max = 1e6 },
    { PROTO_AT(ledger_event, steps), .kind = PROTO_INT, .flags = PROTO_REQUIRED, .min = 1,
      .max = 1e9 },
};

static const struct proto_message event_message = { .name = "LedgerEvent",
                                                    .size = sizeof(struct ledger_event),
                                                    .fields = event_fields,
                                                    .n_fields = PROTO_COUNT(event_fields) };

static const struct proto_field import_fields[] = {
    { PROTO_LIST(ledger_import, events), .kind = PROTO_OBJECTS, .max = 64,
      .message = &event_message },
    { PROTO_AT(ledger_import, epsilon), .kind = PROTO_REAL, .flags = PROTO_ABOVE, .max = 1e6 },
    { PROTO_AT(ledger_import, reason), .kind = PROTO_STRING, .flags = PROTO_REQUIRED, .min = 1,
      .max = 1024 },
};

static void import_check(struct proto_decoder *d, void *message)
{
    const struct ledger_import *i = message;
    if (isnan(i->epsilon) && i->n_events == 0)
        proto_fail(d, ITEM_MISSING_MEMBER, "needs events, epsilon, or both");
}

const struct proto_message ledger_import_message = { .name = "LedgerImport",
                                                     .size = sizeof(struct ledger_import),
                                                     .fields = import_fields,
                                                     .n_fields = PROTO_COUNT(import_fields),
                                                     .check = import_check };

static const struct proto_field row_fields[] = {
    { PROTO_AT(ledger_row, seq), .kind = PROTO_INT, .flags = PROTO_REQUIRED },
    { PROTO_AT(ledger_row, at), .kind = PROTO_TIME },
    { PROTO_AT(ledger_row, dataset), .kind = PROTO_STRING },
    { PROTO_AT(ledger_row, job), .kind = PROTO_STRING },
    { PROTO_AT(ledger_row, attempt), .kind = PROTO_INT },
    { PROTO_AT(ledger_row, kind), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = ledger_kinds },
    { PROTO_AT(ledger_row, step_from), .kind = PROTO_INT },
    { PROTO_AT(ledger_row, step_to), .kind = PROTO_INT },
    { PROTO_AT(ledger_row, sample_rate), .kind = PROTO_REAL },
    { PROTO_AT(ledger_row, noise_multiplier), .kind = PROTO_REAL },
    { PROTO_AT(ledger_row, steps), .kind = PROTO_INT },
    { PROTO_AT(ledger_row, epsilon), .kind = PROTO_REAL },
    { PROTO_AT(ledger_row, delta), .kind = PROTO_REAL },
    { PROTO_LIST(ledger_row, rdp), .kind = PROTO_INTS, .max = 64 },
    { PROTO_AT(ledger_row, actor), .kind = PROTO_STRING },
    { PROTO_AT(ledger_row, note), .kind = PROTO_STRING },
    { PROTO_AT(ledger_row, prev_sha256), .kind = PROTO_STRING },
    { PROTO_AT(ledger_row, sha256), .kind = PROTO_STRING },
};

const struct proto_message ledger_row_message = { .name = "LedgerRow",
                                                  .size = sizeof(struct ledger_row),
                                                  .fields = row_fields,
                                                  .n_fields = PROTO_COUNT(row_fields) };

static const struct proto_field page_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = list_text },
    { PROTO_LIST(ledger_page, data), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &ledger_row_message },
    { PROTO_AT(ledger_page, has_more), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
};

const struct proto_message ledger_page_message = { .name = "LedgerPage",
                                                   .size = sizeof(struct ledger_page),
                                                   .fields = page_fields,
                                                   .n_fields = PROTO_COUNT(page_fields) };

PROTO_DEFINE_LENIENT(budget_view, budget_view_message)
PROTO_DEFINE_STRICT(budget_change, budget_change_message)
PROTO_DEFINE_STRICT(ledger_import, ledger_import_message)
PROTO_DEFINE_LENIENT(ledger_page, ledger_page_message)

void budget_view_init(struct budget_view *view)
{
    memset(view, 0, sizeof *view);
    proto_defaults(&budget_view_message, view, 0);
}

void ledger_row_init(struct ledger_row *row)
{
    memset(row, 0, sizeof *row);
    proto_defaults(&ledger_row_message, row, 0);
}

char *ledger_row_encode(const struct ledger_row *row, size_t *lenp)
{
    return proto_encode(&ledger_row_message, row, lenp);
}

const char *ledger_kind_name(enum ledger_kind kind)
{
    return (unsigned)kind < PROTO_COUNT(ledger_kinds) - 1 ? ledger_kinds[kind] : "";
}
