/* POST /tokens, GET /tokens, DELETE /tokens/{id}: for admins. A token's text is told once.
 *
 *   {"owner": "ada", "role": "submitter", "expires_in": "90d"}   expires_in is optional */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "proto/text.h"

static json_t *token_json(const struct auth_token *token, const char *text)
{
    char created[PROTO_TIME_MAX], expires[PROTO_TIME_MAX];
    proto_time_text(token->created_ms, created);
    if (token->expires_ms != 0)
        proto_time_text(token->expires_ms, expires);
    return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s*}", "id", token->id, "owner", token->owner,
                     "role", auth_role_name(token->role), "created_at", created, "expires_at",
                     token->expires_ms != 0 ? expires : NULL, "token", text);
}

/* One text member of the body; false with the problem filled. */
static bool read_text(const json_t *body, const char *name, bool required, const char **valuep,
                      struct problem *p)
{
    char pointer[64] = "/";
    const json_t *value = json_object_get(body, name);
    strcat(pointer, name);
    *valuep = json_string_value(value);
    if (*valuep != NULL || (value == NULL && !required))
        return true;
    problem_invalid(p, pointer, value == NULL ? ITEM_MISSING_MEMBER : ITEM_WRONG_TYPE,
                    value == NULL ? "is required" : "must be a string");
    return false;
}

static bool known_members(json_t *body, struct problem *p)
{
    const char *name;
    json_t *value;
    json_object_foreach (body, name, value) {
        if (strcmp(name, "owner") == 0 || strcmp(name, "role") == 0 ||
            strcmp(name, "expires_in") == 0)
            continue;
        problem_set(p, PROBLEM_UNKNOWN_MEMBER, NULL);
        problem_add(p, "", ITEM_UNKNOWN_MEMBER, "unknown member \"%.64s\"", name);
        return false;
    }
    return true;
}

struct wish {
    const char *owner;
    enum auth_role role;
    double expires_s; /* from now; 0: never */
};

static bool read_wish(json_t *body, struct wish *wish, struct problem *p)
{
    const char *role, *expires;
    if (!known_members(body, p) || !read_text(body, "owner", true, &wish->owner, p) ||
        !read_text(body, "role", true, &role, p) ||
        !read_text(body, "expires_in", false, &expires, p))
        return false;
    wish->role = auth_role_parse(role);
    if (!auth_owner_valid(wish->owner))
        problem_invalid(p, "/owner", ITEM_INVALID_VALUE,
                        "1 to %d letters, digits and . _ @ -", AUTH_OWNER_MAX);
    else if (wish->role == 0)
        problem_invalid(p, "/role", ITEM_UNKNOWN_NAME,
                        "one of viewer, submitter, custodian, admin, metrics");
    else if (expires != NULL && (proto_duration_parse(expires, &wish->expires_s) != 0 ||
                                 wish->expires_s < 1 || wish->expires_s > 10.0 * 366 * 86400))
        problem_invalid(p, "/expires_in", ITEM_INVALID_VALUE,
                        "a time such as 12h or 90d, at most ten years");
    else
        return true;
    return false;
}

enum MHD_Result route_token_create(struct request *req)
{
    struct problem p;
    struct wish wish = { 0 };
    json_error_t where;
    char text[AUTH_TOKEN_TEXT];
    const struct auth_token *token;
    const struct env *env = req->services->env;
    problem_init(&p);
    json_t *body = json_loadb(req->body != NULL ? req->body : "", req->n_body,
                              JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(body)) {
        json_decref(body);
        return reply_error(req, PROBLEM_MALFORMED_JSON, "expected an object with owner and role");
    }
    if (!read_wish(body, &wish, &p)) {
        json_decref(body);
        return reply_problem(req, &p, NULL);
    }
    int64_t now = env->realtime_ms(env);
    int r = auth_create(req->services->auth, wish.owner, wish.role, now,
                        wish.expires_s > 0 ? now + (int64_t)(wish.expires_s * 1000) : 0, text,
                        &token);
    json_decref(body);
    if (r == -ENOSPC)
        return reply_error(req, PROBLEM_STATE_CONFLICT, "there are %d tokens, or the disk is full",
                           AUTH_TOKENS_MAX);
    if (r != 0)
        return reply_error(req, PROBLEM_INTERNAL, NULL);
    json_t *answer = token_json(token, text);
    sodium_memzero(text, sizeof text);
    return reply_json(req, 201, answer, NULL);
}

enum MHD_Result route_token_list(struct request *req)
{
    const struct auth *auth = req->services->auth;
    json_t *data = json_array();
    for (size_t i = 0; i < auth_count(auth); i++)
        json_array_append_new(data, token_json(auth_at(auth, i), NULL));
    return reply_json(req, 200,
                      json_pack("{s:s, s:o, s:b}", "object", "list", "data", data, "has_more", 0),
                      NULL);
}

enum MHD_Result route_token_delete(struct request *req)
{
    int r = auth_remove(req->services->auth, req->args[0]);
    if (r == -ENOENT)
        return reply_error(req, PROBLEM_NOT_FOUND, NULL);
    if (r == -EBUSY)
        return reply_error(req, PROBLEM_STATE_CONFLICT, "it is the last admin token");
    if (r != 0)
        return reply_error(req, PROBLEM_INTERNAL, NULL);
    return reply_empty(req, 204, NULL);
}
