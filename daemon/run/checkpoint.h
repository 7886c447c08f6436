/* Checkpoints: the trainer's state and the run's own record of metrics in one file, with its
 * digest at the end. Two are kept; a damaged one is skipped. */
#ifndef DAEMON_RUN_CHECKPOINT_H
#define DAEMON_RUN_CHECKPOINT_H

#include "base/env.h"
#include "psg/train.h"

/* A line of metrics.csv; absent values are NAN. */
struct metric {
    int64_t step;
    double loss, clip_fraction, lr, epsilon, eval_loss, eval_accuracy;
};

enum { METRICS_MAX = 8192 };

/* Every stride-th line that was offered; when it is full, every second line goes. */
struct metrics {
    int64_t n, stride, offered;
    struct metric line[METRICS_MAX];
};

void metrics_init(struct metrics *metrics);
/* keep: an evaluation, never skipped when it is offered. */
void metrics_add(struct metrics *metrics, const struct metric *line, bool keep);

struct checkpoint_info {
    int64_t step, bytes;
    char sha256[65];
};

/* 0 or a negative errno. */
int checkpoint_save(const struct env *env, int dir, struct psg_trainer *trainer,
                    const struct metrics *metrics, struct checkpoint_info *info);
/* Restores the newest valid checkpoint whose step is at most max_step. *foundp false: there is
 * none. A negative errno when memory runs out or reading fails. */
int checkpoint_load(const struct env *env, int dir, int64_t max_step,
                    struct psg_trainer *trainer, struct metrics *metrics, bool *foundp);
/* Names of the two files. */
extern const char *const checkpoint_names[2];

#endif
