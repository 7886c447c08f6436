/* One artifact into a file: written beside it, renamed when whole. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

struct download {
    dpc_client *client;
    FILE *file;
    int write_error;       /* errno, 0: none */
    struct buffer refusal; /* body of an answer that is not the file */
};

static size_t on_bytes(char *bytes, size_t size, size_t n, void *user)
{
    struct download *d = user;
    long status = 0;
    curl_easy_getinfo(d->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return buffer_append(&d->refusal, bytes, size * n, ANSWER_MAX) ? 0 : size * n;
    if (fwrite(bytes, 1, size * n, d->file) == size * n)
        return size * n;
    d->write_error = errno;
    return 0;
}

static int fetch(struct download *d, const char *path, struct dpc_error *err)
{
    struct http_request request = { .method = "GET", .path = path };
    struct curl_slist *headers;
    int r = http_prepare(d->client, &request, &headers, err);
    if (r)
        return r;
    CURL *curl = d->client->curl;
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, d);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (d->client->heartbeat_ms + 999) / 1000);
    CURLcode code = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    struct http_answer answer = { .body = d->refusal };
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
    if (d->write_error)
        return client_fail(err, DPC_E_FILE, "%s", strerror(d->write_error));
    if (code != CURLE_OK)
        return client_fail(err, DPC_E_CONNECT, "%s: %s", d->client->url,
                           curl_easy_strerror(code));
    return answer.status == 200 ? DPC_OK : client_refused(err, &answer);
}

/* everything on disk before the name appears */
static int publish(FILE **filep, const char *temporary, const char *path,
                   struct dpc_error *err)
{
    FILE *file = *filep;
    *filep = NULL;
    int failed = fflush(file) || fsync(fileno(file)) || fchmod(fileno(file), 0644);
    failed |= fclose(file);
    if (failed || rename(temporary, path))
        return client_fail(err, DPC_E_FILE, "%s: %s", path, strerror(errno));
    return DPC_OK;
}

static int download_to(dpc_client *client, const char *url_path, const char *path,
                       struct dpc_error *err)
{
    struct download d = { .client = client };
    char *temporary;
    if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
        return client_fail(err, DPC_E_NOMEM, "out of memory");
    int fd = mkstemp(temporary), r;
    if (fd >= 0)
        d.file = fdopen(fd, "wb");
    if (!d.file) {
        r = client_fail(err, DPC_E_FILE, "%s: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
            unlink(temporary);
        }
        free(temporary);
        return r;
    }
    r = fetch(&d, url_path, err);
    if (r == DPC_OK)
        r = publish(&d.file, temporary, path, err);
    if (d.file)
        fclose(d.file);
    if (r != DPC_OK)
        unlink(temporary);
    buffer_free(&d.refusal);
    free(temporary);
    return r;
}

int dpc_download(dpc_client *client, const char *id, const char *artifact, const char *path,
                 struct dpc_error *err)
{
    char *prefix = path_of(err, "/jobs/", id, "/artifacts/");
    char *url_path = prefix ? path_of(err, prefix, artifact, "") : NULL;
    int r = err ? err->status : DPC_E_INVALID;
    if (url_path)
        r = download_to(client, url_path, path, err);
    free(prefix);
    free(url_path);
    return r;
}
