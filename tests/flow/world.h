/* The core of a daemon on a state folder, opened and closed at will. */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

#include <stdbool.h>
#include <uv.h>

#include "job/jobs.h"

struct world {
    char path[128];
    const struct env *env;
    uv_loop_t loop;
    struct store *store;
    struct store_loop *store_loop;
    struct stream *stream;
    struct datasets *datasets;
    struct jobs *jobs;
    int state_dir;
    int fatal; /* the fatal error that was told, or 0 */
    bool drained;
};

/* false: something could not be opened (only where files fail). max_running 0: nothing runs. */
bool world_open(struct world *w, const char *path, const struct env *env, int max_running);
void world_close(struct world *w);

/* Turns the loop until the job has ended; false: a fatal error came first. */
bool world_run(struct world *w, const char *id);
/* Turns the loop until the job has announced this many steps, or has ended. */
bool world_run_steps(struct world *w, const char *id, int64_t steps);
void world_drain(struct world *w);

/* Registers the digits as public data with a budget, so that a seed is allowed. */
int world_add_digits(struct world *w, const char *name);
/* Registers a dataset whose files are a.csv and b.csv: two columns and a label, in the world's
 * folder. */
void world_add_files(struct world *w, const char *spec);
/* Submits a small job; id[JOBS_ID_SIZE]. Answers what jobs_submit does. */
int world_submit(struct world *w, const char *spec, const char *key, char *id,
                 struct problem *p);

enum job_status world_status(struct world *w, const char *id);
/* The last step that a committed event has announced. */
int64_t world_steps(struct world *w, const char *id);
/* Asserts that events are numbered 1, 2, ... and answers how many there are. */
int world_check_events(struct world *w, const char *id);
/* Events whose text has this part. */
int world_count_events(struct world *w, const char *id, const char *part);
/* The bytes of the tensors of the job's model; malloc'ed. */
char *world_model(struct world *w, const char *id, size_t *np);

#endif
