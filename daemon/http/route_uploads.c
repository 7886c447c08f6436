/* POST /uploads, GET /uploads, GET, HEAD, PATCH and DELETE /uploads/{id} */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "http/work.h"
#include "upload/upload.h"

/* As reply_result, with the headers that say where the upload stands. */
static enum MHD_Result answer_at(struct request *req, int r, unsigned status,
                                 const struct upload_place *place, const char *location,
                                 struct answer *answer, struct problem *p)
{
    char offset[24] = "", length[24] = "";
    snprintf(offset, sizeof offset, "%" PRId64, place->offset);
    snprintf(length, sizeof length, "%" PRId64, place->bytes);
    const struct reply_header *headers =
        REPLY_HEADERS({ "Upload-Offset", place->bytes > 0 ? offset : NULL },
                      { "Upload-Length", place->bytes > 0 ? length : NULL },
                      { "Location", location });
    if (r != 0)
        return reply_problem(req, p, headers);
    char *text = answer->text;
    answer->text = NULL;
    return reply_text(req, status, "application/json", text, answer->size, headers);
}

enum MHD_Result route_upload_create(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    struct upload_place place = { 0, 0 };
    char id[UPLOAD_ID_SIZE], location[64];
    bool created = false;
    _cleanup_(upload_spec_freep) struct upload_spec *spec = NULL;
    problem_init(&p);
    if (upload_spec_decode(&spec, req->body != NULL ? req->body : "", req->n_body, &p) != 0)
        return reply_problem(req, &p, NULL);
    int r = uploads_create(req->services->uploads, spec, req->who.owner, id, &created, &answer,
                           &p);
    if (r == 0)
        snprintf(location, sizeof location, "/uploads/%s", id);
    return answer_at(req, r, created ? 201 : 200, &place, r == 0 ? location : NULL, &answer, &p);
}

enum MHD_Result route_upload_list(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    int64_t limit = 20;
    problem_init(&p);
    if (!request_param_int(req, "limit", 1, 100, &limit, &p))
        return reply_problem(req, &p, NULL);
    int r = uploads_list(req->services->uploads, request_viewer(req),
                         request_param(req, "digest"), request_param(req, "after"), (int)limit,
                         &answer, &p);
    return reply_page(req, r, &answer, "id", &p);
}

enum MHD_Result route_upload_get(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    struct upload_place place = { 0, 0 };
    problem_init(&p);
    int r = uploads_get(req->services->uploads, req->args[0], request_viewer(req), &place,
                        &answer, &p);
    return answer_at(req, r, 200, &place, NULL, &answer, &p);
}

enum MHD_Result route_upload_delete(struct request *req)
{
    struct problem p;
    problem_init(&p);
    int r = uploads_delete(req->services->uploads, req->args[0], request_viewer(req), &p);
    return r != 0 ? reply_problem(req, &p, NULL) : reply_empty(req, 204, NULL);
}

/* ---- a piece ---- */

static void piece_write(void *arg)
{
    upload_piece_write(arg);
}

static enum MHD_Result piece_answer(struct request *req, void *arg)
{
    struct problem p;
    struct answer answer = { 0 };
    struct upload_place place = { 0, 0 };
    problem_init(&p);
    int r = upload_piece_end(arg, &place, &answer, &p);
    return answer_at(req, r, 200, &place, NULL, &answer, &p);
}

static void piece_free(void *arg)
{
    upload_piece_free(arg);
}

static bool parse_offset(const char *text, int64_t *offsetp)
{
    char *end;
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *offsetp = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0';
}

enum MHD_Result route_upload_continue(struct request *req)
{
    static const struct work_kind kind = { piece_write, piece_answer, piece_free };
    struct problem p;
    struct answer none = { 0 };
    struct upload_place place = { 0, 0 };
    struct upload_piece *piece = NULL;
    int64_t offset = 0;
    problem_init(&p);
    if (!parse_offset(request_header(req, "Upload-Offset"), &offset))
        return reply_error(req, PROBLEM_BAD_REQUEST,
                           "the header Upload-Offset says where the piece begins, in bytes");
    if (server_is_draining(req->server))
        return reply_error(req, PROBLEM_DRAINING, NULL);
    char *data = req->body; /* it outlives the request when the client leaves */
    req->body = NULL;
    int r = upload_piece_begin(req->services->uploads, req->args[0], request_viewer(req), offset,
                               data, req->n_body, &piece, &place, &p);
    if (r != 0)
        return answer_at(req, r, 0, &place, NULL, &none, &p);
    return work_reply(req, &kind, piece);
}
