/* Connections: who is at the other end, how long it may take, how many it may have.
 *
 * libmicrohttpd knows only an inactivity timeout, so a sender of one byte every few seconds
 * would stay for ever. Here every connection is in one phase with its own deadline:
 *
 *   IDLE -> HEADERS -> BODY -> ANSWER -> IDLE ...          an overdue one is shut down, after a
 *                         \-> STREAM (no deadline) -> ...  408 when its request was not complete
 *
 * Each phase is a list in order of deadline, so a look at the heads finds all that is overdue.
 * Thread: the loop's. */
#ifndef DAEMON_HTTP_CONN_H
#define DAEMON_HTTP_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <uv.h>

enum conn_phase {
    CONN_IDLE,    /* kept open between requests */
    CONN_HEADERS, /* new, or reading a request's line and headers */
    CONN_BODY,
    CONN_ANSWER, /* conn_touch moves the deadline when the reader moves on */
    CONN_STREAM, /* event streams watch over themselves */
    CONN_N_PHASES
};

struct conn_peer;

struct conn {
    struct conn *prev, *next; /* list of its phase */
    struct conn_table *table;
    struct conn_peer *peer; /* shared by all connections from one address */
    int fd;                 /* libmicrohttpd's; valid while this struct is */
    enum conn_phase phase;
    uint64_t deadline; /* in the loop's milliseconds */
    uint64_t started;  /* when the present request began to arrive */
    uid_t uid;         /* of the process behind a Unix socket */
    bool local;        /* came over the Unix socket */
    bool tls;
    bool over;   /* beyond the soft limit: only probes are answered */
    bool linger; /* answered before its body was read: see conn_close */
};

struct conn_limits {
    size_t max_connections; /* beyond it, a raw 503 */
    size_t soft_connections;
    size_t max_per_address; /* 0: 64, and loopback is free */
    uint64_t timeout[CONN_N_PHASES]; /* ms; 0: none */
};

struct conn_list {
    struct conn *head, *tail;
};

struct conn_table {
    uv_loop_t *loop;
    uv_timer_t timer;
    struct conn_limits limits;
    struct conn_list lists[CONN_N_PHASES];
    struct conn_peer **peers; /* hash buckets */
    unsigned char hash_key[16];
    size_t n;
    size_t n_lingering;
    uint64_t n_timeouts, n_refused; /* totals, for the metrics */
    bool closed;
};

/* 0 or a negative errno. */
int conn_table_init(struct conn_table *table, uv_loop_t *loop, const struct conn_limits *limits);

/* Stops the timer; the handle is closed once the loop has run. All connections are gone. */
void conn_table_close(struct conn_table *table);

/* Whether one more connection from this address is welcome. Otherwise answers with a raw 503 or
 * 429 when it can, and the caller closes fd. */
bool conn_admit(struct conn_table *table, int fd, const struct sockaddr *addr, bool tls);

/* The connection has been taken over by libmicrohttpd. NULL when out of memory. */
struct conn *conn_open(struct conn_table *table, int fd, bool tls);

/* libmicrohttpd is about to close the socket. If the client may still be sending a body that was
 * refused, a duplicate of the socket is read for a bounded while: closing with unread bytes
 * would reset the connection and take the answer with it. */
void conn_close(struct conn *conn);

/* Enters a phase; its deadline starts now. */
void conn_set_phase(struct conn *conn, enum conn_phase phase);

/* The peer has moved on: the present phase's deadline starts again. */
void conn_touch(struct conn *conn);

/* Answers past libmicrohttpd, in the middle of a body that is not wanted; the caller closes the
 * connection. False under TLS, where that cannot be. */
bool conn_refuse(struct conn *conn, const char *status_line, const char *slug, int status);

/* Shuts down what is idle between requests; for draining. */
void conn_close_idle(struct conn_table *table);

/* Shuts down everything that is left. */
void conn_abort_all(struct conn_table *table);

/* Text of the peer's address without port, or "unix". */
void conn_peer_text(const struct conn *conn, char *buf, size_t size);

#endif
