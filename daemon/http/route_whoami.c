/* GET /whoami: whom the service takes the caller for. */
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "proto/server.h"

enum MHD_Result route_whoami(struct request *req)
{
    struct whoami_view view = {
        .owner = req->who.owner,
        .role = user_role_parse(auth_role_name(req->who.role)),
        .via = req->services->config->auth_mode == CONFIG_AUTH_NONE ? "none"
               : req->who.token_id[0] != '\0'                       ? "token"
                                                                    : "socket",
    };
    size_t n = 0;
    char *text = whoami_view_encode(&view, &n);
    return reply_text(req, 200, "application/json", text, n, NULL);
}
