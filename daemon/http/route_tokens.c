/* POST /tokens, GET /tokens, DELETE /tokens/{id}: for admins. A token's text is told once. */
#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "proto/token.h"

static void view_of(const struct auth_token *token, const char *text, struct token_view *view)
{
    token_view_init(view);
    view->id = token->id;
    view->owner = token->owner;
    view->role = user_role_parse(auth_role_name(token->role));
    view->created_at = token->created_ms;
    if (token->expires_ms != 0)
        view->expires_at = token->expires_ms;
    view->token = text;
}

enum MHD_Result route_token_create(struct request *req)
{
    struct problem p;
    struct token_view view;
    const struct auth_token *token;
    const struct env *env = req->services->env;
    char secret[AUTH_TOKEN_TEXT];
    size_t n = 0;
    _cleanup_(token_spec_freep) struct token_spec *spec = NULL;
    problem_init(&p);
    if (req->services->auth == NULL)
        return reply_error(req, PROBLEM_STATE_CONFLICT, "[Auth] Mode=none has no tokens");
    if (token_spec_decode(&spec, req->body != NULL ? req->body : "", req->n_body, &p) != 0)
        return reply_problem(req, &p, NULL);
    int64_t now = env->realtime_ms(env);
    int64_t expires = isnan(spec->expires_in) ? 0 : now + (int64_t)(spec->expires_in * 1000);
    int r = auth_create(req->services->auth, spec->owner,
                        auth_role_parse(user_role_name(spec->role)), now, expires, secret,
                        &token);
    if (r == -E2BIG)
        return reply_error(req, PROBLEM_STATE_CONFLICT, "there are %d tokens already",
                           AUTH_TOKENS_MAX);
    if (r != 0)
        return reply_error(req, r == -ENOSPC ? PROBLEM_DISK_FULL : PROBLEM_INTERNAL, NULL);
    view_of(token, secret, &view);
    char *text = token_view_encode(&view, &n);
    sodium_memzero(secret, sizeof secret);
    return reply_text(req, 201, "application/json", text, n, NULL);
}

enum MHD_Result route_token_list(struct request *req)
{
    const struct auth *auth = req->services->auth;
    size_t n = 0, n_tokens = auth == NULL ? 0 : auth_count(auth);
    struct token_list list = { .data = calloc(n_tokens + 1, sizeof *list.data) };
    for (size_t i = 0; list.data != NULL && i < n_tokens; i++)
        view_of(auth_at(auth, i), NULL, &list.data[list.n_data++]);
    char *text = list.data == NULL ? NULL : token_list_encode(&list, &n);
    free(list.data);
    return reply_text(req, 200, "application/json", text, n, NULL);
}

enum MHD_Result route_token_delete(struct request *req)
{
    int r = req->services->auth == NULL ? -ENOENT
                                        : auth_remove(req->services->auth, req->args[0]);
    if (r == -ENOENT)
        return reply_error(req, PROBLEM_NOT_FOUND, NULL);
    if (r == -EBUSY)
        return reply_error(req, PROBLEM_STATE_CONFLICT, "it is the last admin token");
    if (r != 0)
        return reply_error(req, r == -ENOSPC ? PROBLEM_DISK_FULL : PROBLEM_INTERNAL, NULL);
    return reply_empty(req, 204, NULL);
}
