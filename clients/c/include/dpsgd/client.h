/* libdpsgd-client: submit, watch and collect DP-SGD training jobs.
 *
 * Handles are opaque and independent of each other; one handle is used by one thread at a
 * time. There is no global state. Functions return DPC_OK or a negative enum dpc_status,
 * and fill a struct dpc_error (which may be NULL). What a function hands out is freed with
 * its own free function, which takes NULL. Numbers that are not known are NAN (reals) or -1
 * (integers), texts that are not known are NULL. Times are milliseconds since 1970, UTC. */
#ifndef DPSGD_CLIENT_H
#define DPSGD_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DPC_API __attribute__((visibility("default")))

enum dpc_status {
    DPC_OK = 0,
    DPC_E_NOMEM = -1,
    DPC_E_INVALID = -2,  /* an argument is wrong */
    DPC_E_CONNECT = -3,  /* the daemon cannot be reached, or the connection broke */
    DPC_E_PROTOCOL = -4, /* the answer is not what this library understands */
    DPC_E_REFUSED = -5,  /* the daemon said no; http_status, type and details say why */
    DPC_E_LOST = -6,     /* following was given up: no daemon for lost_after_ms */
    DPC_E_STOPPED = -7,  /* a callback returned other than 0 */
    DPC_E_FILE = -8      /* a file cannot be written */
};

#define DPC_DETAILS_MAX 32

/* one place of a refused request */
struct dpc_detail {
    char pointer[256]; /* RFC 6901 JSON pointer into what was sent */
    char code[32];
    char message[384];
};

struct dpc_error {
    enum dpc_status status;
    int http_status;     /* 0: none */
    char type[64];       /* "/problems/budget-exceeded"; empty: none */
    char text[512];      /* one sentence for people */
    char request_id[64]; /* to be quoted to the administrator; may be empty */
    double requested_epsilon;
    double available_epsilon;
    int64_t max_steps_that_fit;
    size_t n_details;
    struct dpc_detail details[DPC_DETAILS_MAX];
};

typedef struct dpc_client dpc_client;

/* Zeroed members mean the default. Texts are copied. */
struct dpc_options {
    const char *url;         /* default "http://127.0.0.1:8477" */
    const char *unix_socket; /* path of the daemon's socket; NULL: TCP */
    const char *token;       /* bearer token; NULL: none */
    const char *ca_file;     /* certificates to trust instead of the system's */
    long connect_timeout_ms; /* 10 s */
    long timeout_ms;         /* of a whole request, streams and downloads apart: 60 s */
    long heartbeat_ms;       /* a stream that is silent for so long is broken: 45 s */
    long lost_after_ms; /* dpc_follow gives up after so long without the daemon: 120 s */
    int retries; /* of idempotent requests that find no daemon; -1: none; 0 means 2 */
};

DPC_API int dpc_open(dpc_client **clientp, const struct dpc_options *options,
                     struct dpc_error *err);
DPC_API void dpc_close(dpc_client *client);

enum dpc_job_status {
    DPC_JOB_UNKNOWN = 0,
    DPC_JOB_QUEUED,
    DPC_JOB_RUNNING,
    DPC_JOB_PAUSED,
    DPC_JOB_CANCELLING,
    DPC_JOB_SUCCEEDED,
    DPC_JOB_FAILED,
    DPC_JOB_CANCELLED
};

struct dpc_job {
    const char *id, *name, *owner, *dataset, *detail;
    enum dpc_job_status status;
    const char *status_text; /* "queued", ... */
    const char *reason;      /* "ok", "user_cancel", "oom", ...; empty: none */
    int64_t attempt, queue_position;
    int64_t created_at, started_at, finished_at;
    int64_t step, of;                /* progress */
    double loss, clip_fraction;      /* latest, as the dataset's policy allows */
    double eval_loss, eval_accuracy; /* latest */
    double epsilon, delta;           /* spent so far */
    double noise_multiplier, sample_rate;
    const char *json; /* the whole answer */
};

/* a page of jobs, newest first */
struct dpc_jobs {
    size_t n;
    const struct dpc_job *jobs; /* their json is NULL */
    int has_more;               /* go on with after = id of the last one */
    const char *json;
};

struct dpc_filter {
    const char *status, *dataset, *owner; /* NULL: any */
    const char *after;                    /* id of a job; NULL: from the newest */
    int limit;                            /* 0: the daemon's default */
};

/* answers that are handed out as JSON text, NUL-terminated */
struct dpc_text {
    char *text;
    size_t len;
};

/* Submits a job spec (JSON). idempotency_key NULL: one is made, so that the library may
 * send the request again after a broken connection without submitting twice. */
DPC_API int dpc_submit(dpc_client *client, const char *spec, size_t len,
                       const char *idempotency_key, struct dpc_job **jobp,
                       struct dpc_error *err);
/* What the job would take and cost; nothing is reserved. */
DPC_API int dpc_dry_run(dpc_client *client, const char *spec, size_t len,
                        struct dpc_text *plan, struct dpc_error *err);
DPC_API int dpc_get(dpc_client *client, const char *id, struct dpc_job **jobp,
                    struct dpc_error *err);
DPC_API int dpc_list(dpc_client *client, const struct dpc_filter *filter,
                     struct dpc_jobs **jobsp, struct dpc_error *err);
DPC_API int dpc_cancel(dpc_client *client, const char *id, struct dpc_job **jobp,
                       struct dpc_error *err);
DPC_API int dpc_delete(dpc_client *client, const char *id, struct dpc_error *err);

/* One event. Which members are known depends on type: status, step, eval, checkpoint,
 * warning, artifact, end, or a name that a newer daemon has. Valid during the callback
 * only. */
struct dpc_event {
    int64_t id; /* from 1, without gaps, the same after every reconnect */
    const char *type;
    const char *json; /* the whole event, one line */
    int64_t at;
    const char *from, *to, *reason; /* status; end: to is the final status */
    int64_t attempt;
    int64_t step, of;
    double epoch, loss, clip_fraction, lr, noise_multiplier, epsilon, delta;
    double examples_per_s, eta_s;
    int is_private; /* exact values of private data: do not publish */
    const char *split;
    double accuracy;
    const char *name, *sha256; /* artifact, checkpoint */
    int64_t bytes;
    const char *code, *message; /* warning */
};

/* Return 0 to go on. */
typedef int (*dpc_event_fn)(const struct dpc_event *event, void *user);

/* Calls fn for every event after the one with number `after` (0: from the first) until the
 * job has ended. Reconnects with back-off where the stream breaks; every event is delivered
 * once, in order. *final_statusp (may be NULL) is the job's final status. */
DPC_API int dpc_follow(dpc_client *client, const char *id, int64_t after, dpc_event_fn fn,
                       void *user, enum dpc_job_status *final_statusp,
                       struct dpc_error *err);

/* The list of a job's artifacts, and one of them into a file, which appears whole or not at
 * all. */
DPC_API int dpc_artifacts(dpc_client *client, const char *id, struct dpc_text *list,
                          struct dpc_error *err);
DPC_API int dpc_download(dpc_client *client, const char *id, const char *artifact,
                         const char *path, struct dpc_error *err);

/* "sha256:" and 64 hex digits, with its NUL: the name of an uploaded file in a job */
#define DPC_DIGEST_SIZE 72

/* done of total bytes are on the daemon's disk. Return 0 to go on. */
typedef int (*dpc_progress_fn)(int64_t done, int64_t total, void *user);

/* Sends a file, unless the daemon has it: a job names it by the digest that is handed out
 * ({"model": {"torchscript": "sha256:..."}}). A broken connection is resumed where it broke, and
 * so is an upload that an earlier call did not finish. progress may be NULL; it is called at least
 * once. DPC_E_FILE: it cannot be read. */
DPC_API int dpc_upload(dpc_client *client, const char *path, dpc_progress_fn progress,
                       void *user, char digest[DPC_DIGEST_SIZE], struct dpc_error *err);

/* Datasets; answers are JSON as in openapi.json. */
DPC_API int dpc_dataset_add(dpc_client *client, const char *spec, size_t len,
                            struct dpc_text *dataset, struct dpc_error *err);
DPC_API int dpc_dataset_list(dpc_client *client, const char *after, struct dpc_text *page,
                             struct dpc_error *err);
DPC_API int dpc_dataset_get(dpc_client *client, const char *dataset,
                            struct dpc_text *answer, struct dpc_error *err);
DPC_API int dpc_budget(dpc_client *client, const char *dataset, struct dpc_text *budget,
                       struct dpc_error *err);

/* What a custodian does to a budget; change and import are BudgetChange and LedgerImport, answers
 * the Budget that follows. The same idempotency_key never changes it twice; NULL: one is made, so
 * that the library may send it again. Rows of the ledger after number `after`, a page of them. */
DPC_API int dpc_budget_change(dpc_client *client, const char *dataset, const char *change,
                              size_t len, const char *idempotency_key,
                              struct dpc_text *budget, struct dpc_error *err);
DPC_API int dpc_ledger_import(dpc_client *client, const char *dataset, const char *import,
                              size_t len, const char *idempotency_key,
                              struct dpc_text *budget, struct dpc_error *err);
DPC_API int dpc_ledger(dpc_client *client, const char *dataset, int64_t after,
                       struct dpc_text *page, struct dpc_error *err);

/* Any other path: method, path from "/", body (NULL: none). */
DPC_API int dpc_request(dpc_client *client, const char *method, const char *path,
                        const char *body, size_t len, struct dpc_text *answer,
                        struct dpc_error *err);

DPC_API void dpc_job_free(struct dpc_job *job);
DPC_API void dpc_jobs_free(struct dpc_jobs *jobs);
DPC_API void dpc_text_free(struct dpc_text *text);

/* "DPC_E_REFUSED" and so on; never NULL. */
DPC_API const char *dpc_status_name(enum dpc_status status);

#ifdef __cplusplus
}
#endif
#endif
