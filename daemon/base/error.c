#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

const char *error_name(int r)
{
    switch (r) {
    case 0: return "ok";
    case ERROR_STORE: return "store";
    case ERROR_CORRUPT: return "corrupt";
    case ERROR_LEDGER: return "ledger";
    case ERROR_INTERNAL: return "internal";
    }
    return r > 0 ? "refused" : "unknown";
}

int error_refuse(struct problem *p, enum problem_type type, const char *fmt, ...)
{
    if (!p)
        return ERROR_REFUSED;
    if (!fmt) {
        problem_set(p, type, NULL);
        return ERROR_REFUSED;
    }
    char detail[sizeof p->detail];
    va_list args;
    va_start(args, fmt);
    vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    problem_set(p, type, "%s", detail);
    return ERROR_REFUSED;
}

int error_nomem(struct problem *p)
{
    return error_refuse(p, PROBLEM_OUT_OF_MEMORY, NULL);
}

enum problem_item_code error_item_code(enum psg_status status)
{
    switch (status) {
    case PSG_E_SHAPE: return ITEM_SHAPE_MISMATCH;
    case PSG_E_RANGE: return ITEM_OUT_OF_RANGE;
    case PSG_E_UNSUPPORTED: return ITEM_UNSUPPORTED;
    case PSG_E_FORMAT:
    case PSG_E_IO: return ITEM_FILE;
    default: return ITEM_INVALID_VALUE;
    }
}

int error_from_psg(struct problem *p, const char *pointer, const struct psg_error *err)
{
    if (err->status == PSG_E_NOMEM)
        return error_nomem(p);
    problem_invalid(p, pointer, error_item_code(err->status), "%s", err->text);
    return ERROR_REFUSED;
}
