/* What the privacy commands share: accountant, events, and numbers on standard output. */
#ifndef CLI_QUESTION_H
#define CLI_QUESTION_H

#include "args.h"
#include "psg/accountant.h"

struct question {
    const char *accountant;
    enum psg_accountant_kind kind;
    struct args_list events;
    size_t n_event;
    struct psg_dp_event event[ARGS_LIST_MAX];
};

/* Accountant and events; -1 to go on, otherwise an exit status: it was said what is wrong. */
int question_read(struct question *q, const char *command);

/* Says what the library, or a command line, has against it; the exit status. */
int question_fail(const char *command, const struct psg_error *err);
int question_fail_option(const char *command, const char *what);

/* "name": value, null where it is infinite */
void question_put(const char *name, double value);

#endif
