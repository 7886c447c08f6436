/* A team of threads that runs one function at a time, together. */
#ifndef PSG_TEAM_H
#define PSG_TEAM_H

#include "psg/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct psg_team;

/* n_threads >= 1, the caller of psg_team_run included: n_threads - 1 threads are started. They
 * block all signals, so that the process's handlers run elsewhere. */
PSG_API int psg_team_new(int n_threads, struct psg_team **teamp, struct psg_error *err);
/* Ends and joins the threads; takes NULL, returns NULL. */
PSG_API struct psg_team *psg_team_free(struct psg_team *team);
PSG_API int psg_team_size(const struct psg_team *team);
/* Calls fn(arg, thread, n_threads) once for each thread 0 .. n_threads - 1, thread 0 on the
 * caller; returns when all calls have. One run at a time. */
typedef void (*psg_team_fn)(void *arg, int thread, int n_threads);
PSG_API void psg_team_run(struct psg_team *team, psg_team_fn fn, void *arg);
/* Calls fn at most once for each thread: on the caller, and on the threads that come before the
 * caller's own call returns. For work that whoever runs takes piece by piece, until there is
 * none: a thread that wakes late holds nobody up. */
PSG_API void psg_team_share(struct psg_team *team, psg_team_fn fn, void *arg);

#ifdef __cplusplus
}
#endif
#endif
