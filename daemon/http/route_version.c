/* GET /version */
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "proto/server.h"

enum MHD_Result route_version(struct request *req)
{
    struct version_view view = { .name = "dpsgd",
                                 .version = req->services->version,
                                 .started_at = req->services->started_ms };
    size_t n = 0;
    char *text = version_view_encode(&view, &n);
    return reply_text(req, 200, "application/json", text, n, NULL);
}
