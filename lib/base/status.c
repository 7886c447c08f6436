#include "psg/status.h"

#include <stdarg.h>
#include <stdio.h>

int psg_fail(struct psg_error *err, enum psg_status status, const char *place, const char *fmt,
             ...)
{
    if (!err)
        return status;
    err->status = status;
    snprintf(err->place, sizeof err->place, "%s", place ? place : "");
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return status;
}

const char *psg_status_name(enum psg_status status)
{
    switch (status) {
    case PSG_OK: return "PSG_OK";
    case PSG_E_NOMEM: return "PSG_E_NOMEM";
    case PSG_E_INVALID: return "PSG_E_INVALID";
    case PSG_E_SHAPE: return "PSG_E_SHAPE";
    case PSG_E_RANGE: return "PSG_E_RANGE";
    case PSG_E_UNSUPPORTED: return "PSG_E_UNSUPPORTED";
    case PSG_E_FORMAT: return "PSG_E_FORMAT";
    case PSG_E_IO: return "PSG_E_IO";
    }
    return "PSG_E_UNKNOWN";
}
