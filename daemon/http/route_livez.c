/* GET /livez: the loop turns. */
#include "http/reply.h"
#include "http/route.h"

enum MHD_Result route_livez(struct request *req)
{
    static const char body[] = "{\"status\":\"ok\"}";
    return reply_static(req, 200, "application/json", body, sizeof body - 1, NULL);
}
