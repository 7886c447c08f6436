/* Commits the batch at the end of each turn of a libuv loop: everything that one poll
 * brought in shares one fsync. */
#ifndef DAEMON_STORE_LOOP_H
#define DAEMON_STORE_LOOP_H

#include <uv.h>

#include "store/store.h"

struct store_loop;

/* on_fatal(arg, r) runs when a commit failed; the loop should be stopped from it. NULL: out
 * of memory. Detach before the store is closed, then run the loop once more to let its
 * handles close. */
struct store_loop *store_attach(struct store *store, uv_loop_t *loop,
                                void (*on_fatal)(void *arg, int r), void *arg);
void store_detach(struct store_loop *sl);

#endif
