/* A file to the daemon, in pieces; what it has already is not sent. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "proto/upload.h"

enum { PIECE = 1 << 20, TRIES_MAX = 8 };

struct sending {
    dpc_client *client;
    const char *path;
    int fd;
    int64_t size;
    struct upload_view *at; /* as the daemon told it last */
    char *piece;            /* [PIECE] */
    dpc_progress_fn progress;
    void *user;
};

static int fail_file(const struct sending *s, int number, struct dpc_error *err)
{
    return client_fail(err, DPC_E_FILE, "%s: %s", s->path, strerror(number));
}

/* The whole piece, or up to the end of the file. */
static ssize_t read_at(const struct sending *s, int64_t offset, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = pread(s->fd, s->piece + got, n - got, (off_t)offset + (off_t)got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

static int open_file(struct sending *s, struct dpc_error *err)
{
    struct stat st;
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) < 0)
        return fail_file(s, errno, err);
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return client_fail(err, DPC_E_FILE, "%s: is not a file, or is empty", s->path);
    s->size = st.st_size;
    s->piece = malloc(PIECE);
    return s->piece ? DPC_OK : client_fail(err, DPC_E_NOMEM, "out of memory");
}

static int digest_file(const struct sending *s, char digest[DPC_DIGEST_SIZE],
                       struct dpc_error *err)
{
    crypto_hash_sha256_state state;
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_init(&state);
    for (int64_t at = 0; at < s->size;) {
        ssize_t n = read_at(s, at, PIECE);
        if (n <= 0)
            return n < 0 ? fail_file(s, errno, err)
                         : client_fail(err, DPC_E_FILE, "%s: became shorter", s->path);
        crypto_hash_sha256_update(&state, (unsigned char *)s->piece, (unsigned long long)n);
        at += n;
    }
    crypto_hash_sha256_final(&state, sum);
    strcpy(digest, "sha256:");
    sodium_bin2hex(digest + 7, DPC_DIGEST_SIZE - 7, sum, sizeof sum);
    return DPC_OK;
}

/* Takes the answer's body. */
static int take_view(struct sending *s, struct http_answer *answer, struct dpc_error *err)
{
    struct problem problem;
    struct upload_view *view = NULL;
    int r = upload_view_decode(&view, answer->body.text ? answer->body.text : "",
                               answer->body.len, &problem);
    answer_free(answer);
    if (r == PROTO_E_NOMEM)
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    if (r)
        return client_fail(err, DPC_E_PROTOCOL, "the answer is not understood: %s",
                           problem.detail);
    upload_view_free(s->at);
    s->at = view;
    if (s->at->bytes != s->size || s->at->offset > s->size)
        return client_fail(err, DPC_E_PROTOCOL, "the upload is of another size");
    if (s->progress && s->progress(s->at->offset, s->size, s->user))
        return client_fail(err, DPC_E_STOPPED, "stopped");
    return DPC_OK;
}

static int begin(struct sending *s, const char *digest, struct dpc_error *err)
{
    const char *slash = strrchr(s->path, '/');
    char name[129];
    size_t n = 0;
    snprintf(name, sizeof name, "%s", slash ? slash + 1 : s->path);
    struct upload_spec spec = { .digest = digest, .bytes = s->size, .name = name };
    for (const char *p = name; *p; p++) /* what JSON could not carry is not worth a failure */
        if ((unsigned char)*p >= 0x80 || (unsigned char)*p < 0x20)
            spec.name = NULL;
    char *body = upload_spec_encode(&spec, &n);
    if (!body)
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    struct http_request request = {
        .method = "POST", .path = "/uploads", .body = body, .len = n, .again = true
    };
    struct http_answer answer;
    int r = http_expect_ok(s->client, &request, &answer, err);
    free(body);
    return r ? r : take_view(s, &answer, err);
}

/* Where the daemon stands, after a piece of which that is not certain. */
static int ask(struct sending *s, struct dpc_error *err)
{
    char *path = path_of(err, "/uploads/", s->at->id, "");
    if (!path)
        return err ? err->status : DPC_E_NOMEM;
    struct http_request request = { .method = "GET", .path = path, .again = true };
    struct http_answer answer;
    int r = http_expect_ok(s->client, &request, &answer, err);
    free(path);
    return r ? r : take_view(s, &answer, err);
}

/* One piece at the daemon's offset. *statusp: of HTTP, 0 without an answer. */
static int send_piece(struct sending *s, long *statusp, struct dpc_error *err)
{
    int64_t n = s->size - s->at->offset;
    char header[64], *path = path_of(err, "/uploads/", s->at->id, "");
    *statusp = 0;
    if (!path)
        return err ? err->status : DPC_E_NOMEM;
    n = n < PIECE ? n : PIECE;
    if (s->at->piece_bytes > 0 && n > s->at->piece_bytes)
        n = s->at->piece_bytes;
    ssize_t got = read_at(s, s->at->offset, (size_t)n);
    if (got != n) {
        free(path);
        return got < 0 ? fail_file(s, errno, err)
                       : client_fail(err, DPC_E_FILE, "%s: became shorter", s->path);
    }
    snprintf(header, sizeof header, "Upload-Offset: %lld", (long long)s->at->offset);
    struct http_request request = { .method = "PATCH",
                                    .path = path,
                                    .body = s->piece,
                                    .len = (size_t)n,
                                    .type = "application/octet-stream",
                                    .headers = { header } };
    struct http_answer answer;
    int r = http_perform(s->client, &request, &answer, err);
    free(path);
    if (r)
        return r;
    *statusp = answer.status;
    if (answer.status == 200)
        return take_view(s, &answer, err);
    r = client_refused(err, &answer);
    answer_free(&answer);
    return r;
}

/* A broken connection, a daemon that has too much to do or starts again, another sender: to be
 * tried again from where the daemon stands. */
static bool is_passing(int r, long status)
{
    return r == DPC_E_CONNECT ||
           (r == DPC_E_REFUSED && (status == 409 || status == 429 || status == 503));
}

static int send_all(struct sending *s, struct dpc_error *err)
{
    unsigned tries = 0;
    while (!s->at->complete) {
        int64_t before = s->at->offset;
        long status;
        int r = send_piece(s, &status, err);
        for (; is_passing(r, status) && tries < TRIES_MAX; tries++) {
            sleep_ms(backoff_ms(s->client, tries, 250, 8000));
            status = 503; /* a refusal of the question may pass, too, unless it is gone */
            r = ask(s, err);
            if (r == DPC_E_REFUSED && err && err->http_status == 404)
                return r;
            if (r == DPC_OK)
                break;
        }
        if (r)
            return r;
        if (s->at->offset > before)
            tries = 0;
        else if (!s->at->complete && ++tries > TRIES_MAX)
            return client_fail(err, DPC_E_LOST, "the upload makes no progress");
    }
    return DPC_OK;
}

int dpc_upload(dpc_client *client, const char *path, dpc_progress_fn progress, void *user,
               char digest[DPC_DIGEST_SIZE], struct dpc_error *err)
{
    struct sending s = {
        .client = client, .path = path, .fd = -1, .progress = progress, .user = user
    };
    struct dpc_error room;
    err = err ? err : &room;
    digest[0] = '\0';
    int r = open_file(&s, err);
    if (r == DPC_OK)
        r = digest_file(&s, digest, err);
    if (r == DPC_OK)
        r = begin(&s, digest, err);
    if (r == DPC_OK)
        r = send_all(&s, err);
    if (s.fd >= 0)
        close(s.fd);
    upload_view_free(s.at);
    free(s.piece);
    return r;
}
