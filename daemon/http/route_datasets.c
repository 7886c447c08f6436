/* POST /datasets, GET /datasets, GET /datasets/{id} */
#include <jansson.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "data/datasets.h"

enum MHD_Result route_dataset_register(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    char location[64] = "";
    bool created = false;
    _cleanup_(dataset_spec_freep) struct dataset_spec *spec = NULL;
    problem_init(&p);
    if (dataset_spec_decode(&spec, req->body != NULL ? req->body : "", req->n_body, &p) != 0)
        return reply_problem(req, &p, NULL);
    int r = datasets_register(req->services->datasets, spec, req->who.owner, &answer, &created,
                              &p);
    if (r == 0) {
        json_t *view = json_loadb(answer.text, answer.size, 0, NULL);
        const char *id = json_string_value(json_object_get(view, "id"));
        if (id != NULL)
            snprintf(location, sizeof location, "/datasets/%s", id);
        json_decref(view);
    }
    return reply_change(req, r, created ? 201 : 200, &answer, location, &p);
}

enum MHD_Result route_dataset_list(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    int64_t limit = 20;
    problem_init(&p);
    if (!request_param_int(req, "limit", 1, 100, &limit, &p))
        return reply_problem(req, &p, NULL);
    int r = datasets_list(req->services->datasets, request_param(req, "after"), (int)limit,
                          &answer, &p);
    return reply_page(req, r, &answer, "id", &p);
}

enum MHD_Result route_dataset_get(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    problem_init(&p);
    int r = datasets_get(req->services->datasets, req->args[0], &answer, &p);
    return reply_result(req, r, &answer, &p);
}
