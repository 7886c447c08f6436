/* The whole daemon on one loop: opens the modules in order, serves, and takes them down again.
 *
 *   state folder -> store -> streams, datasets -> jobs -> tokens -> HTTP -> READY
 *   SIGTERM -> refuse changes, end streams -> jobs settle -> answers are read -> exit 0 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include <stdbool.h>
#include <uv.h>

#include "base/config.h"
#include "base/log.h"

struct daemon;

/* Where the configuration came from, for SIGHUP. */
struct daemon_source {
    const char *file; /* NULL: none */
    /* applies the options of the command line on top */
    int (*override)(struct config *config, void *arg, struct config_error *err);
    void *arg;
};

/* Runs until SIGTERM or SIGINT. Takes config. Returns the exit status of the process. */
int daemon_run(struct config *config, const struct daemon_source *source, struct log *log);

#endif
