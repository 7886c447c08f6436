/* What the daemon says about itself: GET /version, /whoami, /queue, /devices, /readyz. */
#ifndef PROTO_SERVER_H
#define PROTO_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/problem.h"

struct version_view {
    const char *name;    /* "dpsgd" */
    const char *version; /* of the daemon */
    const char *commit;  /* NULL: not known */
    int64_t started_at;  /* milliseconds since 1970 */
};

enum user_role {
    ROLE_VIEWER = 1,
    ROLE_SUBMITTER,
    ROLE_CUSTODIAN,
    ROLE_ADMIN,
    ROLE_METRICS
};

struct whoami_view {
    const char *owner;
    enum user_role role;
    const char *via; /* "token", "socket", "certificate", "none" */
};

struct queue_entry {
    const char *id;
    const char *owner; /* NULL: somebody else's job, and the reader may not know */
    int64_t position;  /* from 1; 0: running */
    int64_t priority;
    int64_t queued_at;
};

struct queue_view {
    int64_t running;
    int64_t queued;
    size_t n_data; /* running ones first, then in order of their turn */
    struct queue_entry *data;
};

struct device_view {
    const char *id;   /* "cpu", "cuda:0" */
    const char *name; /* model of the processor */
    int64_t cores;    /* -1: not a CPU */
    int64_t memory_bytes;
    bool available;
    const char *detail; /* why not; NULL: available */
    int64_t jobs;       /* running on it */
};

struct device_list {
    size_t n_data;
    struct device_view *data;
};

struct ready_check {
    const char *name; /* "store", "loop", "workers", ... */
    bool ok;
    const char *detail; /* NULL: none */
};

struct ready_view {
    bool ready; /* HTTP status 200; 503 otherwise */
    size_t n_checks;
    struct ready_check *checks;
};

int version_view_decode(struct version_view **p, const char *text, size_t len,
                        struct problem *problem);
char *version_view_encode(const struct version_view *view, size_t *lenp);
struct version_view *version_view_free(struct version_view *view);
void version_view_freep(struct version_view **p);

int whoami_view_decode(struct whoami_view **p, const char *text, size_t len,
                       struct problem *problem);
char *whoami_view_encode(const struct whoami_view *view, size_t *lenp);
struct whoami_view *whoami_view_free(struct whoami_view *view);
void whoami_view_freep(struct whoami_view **p);

int queue_view_decode(struct queue_view **p, const char *text, size_t len,
                      struct problem *problem);
char *queue_view_encode(const struct queue_view *view, size_t *lenp);
struct queue_view *queue_view_free(struct queue_view *view);
void queue_view_freep(struct queue_view **p);

int device_list_decode(struct device_list **p, const char *text, size_t len,
                       struct problem *problem);
char *device_list_encode(const struct device_list *list, size_t *lenp);
struct device_list *device_list_free(struct device_list *list);
void device_list_freep(struct device_list **p);

int ready_view_decode(struct ready_view **p, const char *text, size_t len,
                      struct problem *problem);
char *ready_view_encode(const struct ready_view *view, size_t *lenp);
struct ready_view *ready_view_free(struct ready_view *view);
void ready_view_freep(struct ready_view **p);

const char *user_role_name(enum user_role role);
enum user_role user_role_parse(const char *text); /* 0: no such role */

#endif
