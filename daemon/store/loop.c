#include "store/loop.h"

#include <stdlib.h>

struct store_loop {
    struct store *store;
    uv_check_t check;
    uv_idle_t idle; /* while a batch is open: the poll must not sleep */
    void (*on_fatal)(void *arg, int r);
    void *arg;
    int n_open;
};

static void idle_run(uv_idle_t *idle)
{
    (void)idle;
}

static void check_run(uv_check_t *check)
{
    struct store_loop *sl = check->data;
    if (!store_is_dirty(sl->store))
        return;
    int r = store_commit(sl->store);
    if (!store_is_dirty(sl->store))
        uv_idle_stop(&sl->idle);
    if (r < 0)
        sl->on_fatal(sl->arg, r);
}

static void became_dirty(void *arg)
{
    struct store_loop *sl = arg;
    uv_idle_start(&sl->idle, idle_run);
}

struct store_loop *store_attach(struct store *store, uv_loop_t *loop,
                                void (*on_fatal)(void *arg, int r), void *arg)
{
    struct store_loop *sl = calloc(1, sizeof *sl);
    if (!sl)
        return NULL;
    *sl = (struct store_loop){ .store = store, .on_fatal = on_fatal, .arg = arg, .n_open = 2 };
    uv_check_init(loop, &sl->check);
    uv_idle_init(loop, &sl->idle);
    sl->check.data = sl->idle.data = sl;
    uv_check_start(&sl->check, check_run);
    uv_unref((uv_handle_t *)&sl->check);
    store_on_dirty(store, became_dirty, sl);
    if (store_is_dirty(store))
        became_dirty(sl);
    return sl;
}

static void closed(uv_handle_t *handle)
{
    struct store_loop *sl = handle->data;
    if (--sl->n_open == 0)
        free(sl);
}

void store_detach(struct store_loop *sl)
{
    if (!sl)
        return;
    store_on_dirty(sl->store, NULL, NULL);
    uv_close((uv_handle_t *)&sl->check, closed);
    uv_close((uv_handle_t *)&sl->idle, closed);
}
