/* Two classes of errors, told apart by their sign.
 *
 *   0          done
 *   positive   refused: this request only, nothing changed. Module functions that face a
 * client return ERROR_REFUSED and have filled their struct problem; inner modules have
 *              small enums of their own
 *   negative   fatal: the daemon can no longer vouch for what it has promised. Forward it
 *              unchanged; the top logs it, ends the process with a failure, and recovery at
 * the next start repairs. A failed commit or fsync is never tried again, because the kernel
 * may have dropped the very pages that failed */
#ifndef DAEMON_BASE_ERROR_H
#define DAEMON_BASE_ERROR_H

#include "proto/problem.h"
#include "psg/status.h"

enum { ERROR_REFUSED = 1 };

enum error_fatal {
    ERROR_STORE = -1,   /* a commit or fsync failed: durability is unknown */
    ERROR_CORRUPT = -2, /* the state on disk contradicts itself */
    ERROR_LEDGER = -3,  /* the ledger's chain or totals do not verify */
    ERROR_INTERNAL = -4 /* a rule of the program is broken */
};

/* "store", "corrupt", "ledger", "internal"; "ok" and "refused" for what is not fatal. */
const char *error_name(int r);

/* Fills *p and returns ERROR_REFUSED, so that `return error_refuse(...)` works. */
int error_refuse(struct problem *p, enum problem_type type, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ERROR_REFUSED with PROBLEM_OUT_OF_MEMORY. */
int error_nomem(struct problem *p);

/* libpsg's status in the words of the catalogue. */
enum problem_item_code error_item_code(enum psg_status status);

/* The refusal that belongs to a failure of libpsg while it looked at what a client sent:
 * out of memory, or a validation failure at `pointer` whose message is err->text. */
int error_from_psg(struct problem *p, const char *pointer, const struct psg_error *err);

#endif
