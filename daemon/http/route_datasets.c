/* POST /datasets, GET /datasets, GET /datasets/{id} */
#include <stdio.h>
#include <stdlib.h>

#include "data/datasets.h"
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "http/work.h"

/* Reading and digesting may take minutes: it is done on a thread. */
struct registration {
    struct dataset_spec *spec;
    int root;
    struct dataset_load load;
    struct problem p;
    int r;
};

static void registration_run(void *arg)
{
    struct registration *g = arg;
    g->r = dataset_load(&g->load, g->spec, g->root, &g->p);
}

static enum MHD_Result registration_answer(struct request *req, void *arg)
{
    struct registration *g = arg;
    struct answer answer = { 0 };
    char location[80] = "";
    bool created = false;
    if (g->r == 0)
        g->r = datasets_enter(req->services->datasets, &g->load, req->who.owner, &answer,
                              &created, &g->p);
    if (g->r == 0)
        snprintf(location, sizeof location, "/datasets/%s", g->spec->name);
    return reply_change(req, g->r, created ? 201 : 200, &answer, location, &g->p);
}

static void registration_free(void *arg)
{
    struct registration *g = arg;
    dataset_spec_free(g->spec);
    free(g);
}

enum MHD_Result route_dataset_register(struct request *req)
{
    static const struct work_kind kind = { registration_run, registration_answer,
                                           registration_free };
    struct registration *g = calloc(1, sizeof *g);
    if (g == NULL)
        return reply_error(req, PROBLEM_OUT_OF_MEMORY, NULL);
    problem_init(&g->p);
    g->root = datasets_root(req->services->datasets);
    if (dataset_spec_decode(&g->spec, req->body != NULL ? req->body : "", req->n_body, &g->p) ==
        0)
        return work_reply(req, &kind, g);
    enum MHD_Result r = reply_problem(req, &g->p, NULL);
    registration_free(g);
    return r;
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
