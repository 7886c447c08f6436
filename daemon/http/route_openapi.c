/* GET /openapi.json: the description of this interface, from proto/openapi.json. */
#include "http/openapi.h"
#include "http/reply.h"
#include "http/route.h"

enum MHD_Result route_openapi(struct request *req)
{
    return reply_static(req, 200, "application/json", (const char *)openapi_json,
                        openapi_json_size, NULL);
}
