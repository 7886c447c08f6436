/* GET /metrics: Prometheus text format 0.0.4. */
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"

enum MHD_Result route_metrics(struct request *req)
{
    size_t n = 0;
    char *text = metrics_text(req->server, &n);
    return reply_text(req, 200, "text/plain; version=0.0.4; charset=utf-8", text, n, NULL);
}
