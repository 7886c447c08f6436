/* A run is a new number in `generation`; threads spin a little for it, then sleep on a condition
 * variable. The last thread to finish wakes the caller the same way. A shared run is over when
 * the caller is done: threads that have not come by then are turned away (`open`). */
#include "psg/team.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SPIN_ROUNDS = 2000 };

struct member {
    struct psg_team *team;
    int index;
    pthread_t thread;
};

struct psg_team {
    int n_threads, n_started;
    struct member *member; /* [n_threads]; 0 is the caller */
    pthread_mutex_t lock;
    pthread_cond_t start, done;
    atomic_uint generation; /* written under lock */
    atomic_int running;     /* threads that have not finished this run */
    bool shared, open;      /* under lock: running counts those who came; they may still come */
    bool quit;
    psg_team_fn fn;
    void *arg;
};

static void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Waits for a generation other than *seen, which becomes it. False: this run is over. */
static bool wait_start(struct psg_team *team, unsigned *seen)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&team->generation, memory_order_acquire) != *seen)
            break;
        spin_pause();
    }
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->generation) == *seen)
        pthread_cond_wait(&team->start, &team->lock);
    *seen = atomic_load(&team->generation);
    bool comes = team->open;
    if (comes && team->shared)
        atomic_fetch_add(&team->running, 1);
    pthread_mutex_unlock(&team->lock);
    return comes;
}

static void *member_main(void *arg)
{
    struct member *m = arg;
    struct psg_team *team = m->team;
    unsigned seen = 0;
    for (;;) {
        bool comes = wait_start(team, &seen);
        if (team->quit)
            return NULL;
        if (!comes)
            continue;
        team->fn(team->arg, m->index, team->n_threads);
        if (atomic_fetch_sub(&team->running, 1) == 1) {
            pthread_mutex_lock(&team->lock);
            pthread_cond_signal(&team->done);
            pthread_mutex_unlock(&team->lock);
        }
    }
}

static void announce(struct psg_team *team)
{
    pthread_mutex_lock(&team->lock);
    team->open = true;
    atomic_fetch_add(&team->generation, 1);
    pthread_cond_broadcast(&team->start);
    pthread_mutex_unlock(&team->lock);
}

int psg_team_new(int n_threads, struct psg_team **teamp, struct psg_error *err)
{
    if (n_threads < 1)
        return psg_fail(err, PSG_E_INVALID, "n_threads", "a team of %d threads", n_threads);
    struct psg_team *team = calloc(1, sizeof *team);
    if (!team)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    team->member = calloc((size_t)n_threads, sizeof *team->member);
    if (!team->member) {
        free(team);
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    }
    team->n_threads = n_threads;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->start, NULL);
    pthread_cond_init(&team->done, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = 0;
    for (int i = 1; r == 0 && i < n_threads; i++) {
        struct member *m = &team->member[i];
        *m = (struct member){ .team = team, .index = i };
        r = pthread_create(&m->thread, NULL, member_main, m);
        team->n_started += r == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r) {
        psg_team_free(team);
        return psg_fail(err, PSG_E_NOMEM, NULL, "cannot start a thread: %s", strerror(r));
    }
    *teamp = team;
    return 0;
}

struct psg_team *psg_team_free(struct psg_team *team)
{
    if (!team)
        return NULL;
    team->quit = true;
    announce(team);
    for (int i = 1; i <= team->n_started; i++)
        pthread_join(team->member[i].thread, NULL);
    pthread_cond_destroy(&team->done);
    pthread_cond_destroy(&team->start);
    pthread_mutex_destroy(&team->lock);
    free(team->member);
    free(team);
    return NULL;
}

int psg_team_size(const struct psg_team *team)
{
    return team->n_threads;
}

static void run(struct psg_team *team, psg_team_fn fn, void *arg, bool shared)
{
    team->fn = fn;
    team->arg = arg;
    team->shared = shared;
    atomic_store(&team->running, shared ? 0 : team->n_threads - 1);
    if (team->n_threads > 1)
        announce(team);
    fn(arg, 0, team->n_threads);
    if (team->n_threads == 1)
        return;
    if (shared) {
        pthread_mutex_lock(&team->lock);
        team->open = false;
        pthread_mutex_unlock(&team->lock);
    }
    for (int i = 0; i < SPIN_ROUNDS && atomic_load(&team->running) > 0; i++)
        spin_pause();
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->running) > 0)
        pthread_cond_wait(&team->done, &team->lock);
    pthread_mutex_unlock(&team->lock);
}

void psg_team_run(struct psg_team *team, psg_team_fn fn, void *arg)
{
    run(team, fn, arg, false);
}

void psg_team_share(struct psg_team *team, psg_team_fn fn, void *arg)
{
    run(team, fn, arg, true);
}
