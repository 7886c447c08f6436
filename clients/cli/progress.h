/* How following a job looks: a bar on a terminal, plain lines elsewhere. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "dpsgd/client.h"

struct progress {
    FILE *out;
    bool terminal;
    bool json;
    int width;          /* columns of the terminal */
    int64_t shown_ms;   /* clock of the last step that was shown; -1: none */
    bool bar;           /* the cursor is behind a bar */
    double smooth_loss; /* exponential mean: noised telemetry jumps; NAN: none yet */
    bool is_private;
};

/* terminal: whether out is one. */
void progress_init(struct progress *p, FILE *out, bool terminal, int width, bool json);

/* One event; now_ms is a clock that only goes forward. */
void progress_event(struct progress *p, const struct dpc_event *event, int64_t now_ms);

/* Leaves the line. */
void progress_end(struct progress *p);

#endif
