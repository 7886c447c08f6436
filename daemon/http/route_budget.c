/* GET and PATCH /datasets/{id}/budget, GET and POST /datasets/{id}/ledger */
#include <sodium.h>
#include <string.h>

#include "base/cleanup.h"
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "data/datasets.h"

enum MHD_Result route_budget_get(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    problem_init(&p);
    int r = datasets_budget(req->services->datasets, req->args[0], &answer, &p);
    return reply_result(req, r, &answer, &p);
}

/* The request's key with what was asked of which dataset; *keyp NULL: it has none. */
static bool read_key(struct request *req, struct datasets_key *room, struct datasets_key **keyp,
                     struct problem *p)
{
    crypto_hash_sha256_state h;
    const char *body = req->body != NULL ? req->body : "";
    *room = (struct datasets_key){ 0 };
    if (!request_key(req, &room->text, p))
        return false;
    crypto_hash_sha256_init(&h);
    crypto_hash_sha256_update(&h, (const unsigned char *)req->method, strlen(req->method) + 1);
    crypto_hash_sha256_update(&h, (const unsigned char *)req->args[0], strlen(req->args[0]) + 1);
    crypto_hash_sha256_update(&h, (const unsigned char *)body, req->n_body);
    crypto_hash_sha256_final(&h, room->fingerprint);
    *keyp = room->text != NULL ? room : NULL;
    return true;
}

enum MHD_Result route_budget_change(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    struct datasets_key room, *key;
    _cleanup_(budget_change_freep) struct budget_change *change = NULL;
    problem_init(&p);
    if (!read_key(req, &room, &key, &p))
        return reply_problem(req, &p, NULL);
    if (budget_change_decode(&change, req->body != NULL ? req->body : "", req->n_body, &p) != 0)
        return reply_problem(req, &p, NULL);
    int r = datasets_change(req->services->datasets, req->args[0], change, req->who.owner, key,
                            &answer, &p);
    req->replayed = room.replayed;
    return reply_change(req, r, 200, &answer, NULL, &p);
}

enum MHD_Result route_ledger(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    int64_t after = 0, limit = 100;
    problem_init(&p);
    if (!request_param_int(req, "after", 0, INT64_MAX, &after, &p) ||
        !request_param_int(req, "limit", 1, 1000, &limit, &p))
        return reply_problem(req, &p, NULL);
    int r = datasets_ledger(req->services->datasets, req->args[0], (uint64_t)after, (int)limit,
                            &answer, &p);
    return reply_page(req, r, &answer, "seq", &p);
}

enum MHD_Result route_ledger_import(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    struct datasets_key room, *key;
    _cleanup_(ledger_import_freep) struct ledger_import *import = NULL;
    problem_init(&p);
    if (!read_key(req, &room, &key, &p))
        return reply_problem(req, &p, NULL);
    if (ledger_import_decode(&import, req->body != NULL ? req->body : "", req->n_body, &p) != 0)
        return reply_problem(req, &p, NULL);
    int r = datasets_import(req->services->datasets, req->args[0], import, req->who.owner, key,
                            &answer, &p);
    req->replayed = room.replayed;
    return reply_change(req, r, 200, &answer, NULL, &p);
}
