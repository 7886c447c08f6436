/* GET /readyz: whether jobs are taken. 503 while draining and after the store has failed. */
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "proto/server.h"
#include "store/store.h"

enum MHD_Result route_readyz(struct request *req)
{
    bool store = store_failed(req->services->store) == 0;
    bool open = !req->server->draining;
    struct ready_check checks[] = {
        { "store", store, store ? NULL : "a write has failed" },
        { "accepting", open, open ? NULL : "the daemon is shutting down" },
    };
    struct ready_view view = { .ready = store && open, .n_checks = 2, .checks = checks };
    size_t n = 0;
    char *text = ready_view_encode(&view, &n);
    return reply_text(req, view.ready ? 200 : 503, "application/json", text, n,
                      REPLY_HEADERS({ "Retry-After", view.ready ? NULL : "5" }));
}
