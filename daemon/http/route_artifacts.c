/* GET /jobs/{id}/artifacts, GET /jobs/{id}/artifacts/{name} (Range, ETag) */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "job/jobs.h"

enum { BLOCK = 65536 };

enum MHD_Result route_artifact_list(struct request *req)
{
    struct problem p;
    struct answer answer = { 0 };
    problem_init(&p);
    int r = jobs_artifacts(req->services->jobs, req->args[0], request_viewer(req), &answer, &p);
    return reply_result(req, r, &answer, &p);
}

/* A file being sent. */
struct download {
    int fd;
    uint64_t from;
    struct conn *conn;
};

static ssize_t on_read(void *cls, uint64_t position, char *buf, size_t max)
{
    struct download *download = cls;
    ssize_t n = pread(download->fd, buf, max, (off_t)(download->from + position));
    if (n <= 0)
        return MHD_CONTENT_READER_END_WITH_ERROR; /* shorter than it was: must not look whole */
    conn_touch(download->conn); /* the reader moves on */
    return n;
}

static void on_free(void *cls)
{
    struct download *download = cls;
    close(download->fd);
    free(download);
}

enum range { RANGE_NONE, RANGE_ONE, RANGE_OUTSIDE };

static bool read_number(const char **p, uint64_t *value)
{
    char *end;
    if (**p < '0' || **p > '9')
        return false;
    errno = 0;
    *value = strtoull(*p, &end, 10);
    *p = end;
    return errno == 0;
}

/* "bytes=a-b", "bytes=a-" or "bytes=-n" of size bytes, as [*from, *from + *n). What is not one
 * such range is as if it was not there (RFC 9110, section 14.2). */
static enum range parse_range(const char *text, uint64_t size, uint64_t *from, uint64_t *n)
{
    uint64_t first = 0, last = UINT64_MAX;
    if (text == NULL || strncasecmp(text, "bytes=", 6) != 0)
        return RANGE_NONE;
    text += 6;
    bool suffix = *text == '-';
    if (!suffix && !read_number(&text, &first))
        return RANGE_NONE;
    if (*text++ != '-')
        return RANGE_NONE;
    if (*text != '\0' && !read_number(&text, &last))
        return RANGE_NONE;
    if (*text != '\0' || (suffix && text[-1] == '-') || (!suffix && last < first))
        return RANGE_NONE;
    if (suffix) {
        first = last < size ? size - last : 0;
        if (last == 0)
            return RANGE_OUTSIDE;
        last = UINT64_MAX;
    }
    if (first >= size)
        return RANGE_OUTSIDE;
    *from = first;
    *n = (last < size ? last + 1 : size) - first;
    return RANGE_ONE;
}

/* RFC 9530 text of a digest given in hex. */
static void digest_text(const char *sha256, char *buf, size_t size)
{
    unsigned char digest[32];
    char base64[48];
    size_t n = 0;
    sodium_hex2bin(digest, sizeof digest, sha256, strlen(sha256), NULL, &n, NULL);
    sodium_bin2base64(base64, sizeof base64, digest, n, sodium_base64_VARIANT_ORIGINAL);
    snprintf(buf, size, "sha-256=:%s:", base64);
}

static enum MHD_Result send_file(struct request *req, const struct jobs_file *file)
{
    char etag[72], digest[72], range[96] = "", outside[64];
    uint64_t from = 0, n = file->size;
    snprintf(etag, sizeof etag, "\"%s\"", file->sha256);
    digest_text(file->sha256, digest, sizeof digest);
    const char *match = request_header(req, "If-None-Match");
    const char *if_range = request_header(req, "If-Range");
    if (match != NULL && (strcmp(match, "*") == 0 || strstr(match, etag) != NULL)) {
        close(file->fd);
        return reply_empty(req, 304, REPLY_HEADERS({ "ETag", etag }));
    }
    enum range kind = if_range != NULL && strcmp(if_range, etag) != 0
                          ? RANGE_NONE
                          : parse_range(request_header(req, "Range"), file->size, &from, &n);
    if (kind == RANGE_OUTSIDE) {
        struct problem p;
        close(file->fd);
        problem_init(&p);
        snprintf(outside, sizeof outside, "bytes */%llu", (unsigned long long)file->size);
        problem_set(&p, PROBLEM_RANGE_NOT_SATISFIABLE, NULL);
        return reply_problem(req, &p, REPLY_HEADERS({ "Content-Range", outside }));
    }
    if (kind == RANGE_ONE)
        snprintf(range, sizeof range, "bytes %llu-%llu/%llu", (unsigned long long)from,
                 (unsigned long long)(from + n - 1), (unsigned long long)file->size);
    struct download *download = malloc(sizeof *download);
    if (download == NULL) {
        close(file->fd);
        return reply_error(req, PROBLEM_OUT_OF_MEMORY, NULL);
    }
    *download = (struct download){ .fd = file->fd, .from = from, .conn = req->conn };
    struct MHD_Response *response =
        MHD_create_response_from_callback(n, BLOCK, on_read, download, on_free);
    if (response == NULL)
        on_free(download);
    return reply_response(req, kind == RANGE_ONE ? 206 : 200, response, file->media_type,
                          REPLY_HEADERS({ "ETag", etag }, { "Accept-Ranges", "bytes" },
                                        { "Repr-Digest", digest },
                                        { "Content-Range", range[0] != '\0' ? range : NULL },
                                        { "Content-Disposition", "attachment" },
                                        { "Cache-Control", "private, no-cache" }));
}

enum MHD_Result route_artifact_get(struct request *req)
{
    struct problem p;
    struct jobs_file file = { .fd = -1 };
    struct answer none = { 0 };
    problem_init(&p);
    int r = jobs_artifact_open(req->services->jobs, req->args[0], request_viewer(req),
                               req->args[1], &file, &p);
    if (r != 0)
        return reply_result(req, r, &none, &p);
    return send_file(req, &file);
}
