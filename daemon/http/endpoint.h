/* One listening socket and the libmicrohttpd daemon behind it, driven by the libuv loop.
 *
 *   listen fd --uv_poll--> accept, admit, MHD_add_connection --+
 *   MHD's epoll fd --uv_poll------------------------------------+--> pump: MHD_run, again while
 *   timer (MHD_get_timeout, endpoint_wake) ---------------------+    it has work, at most BUDGET
 *
 * The epoll inside is edge-triggered, so data that is still buffered raises no event: only
 * MHD_get_timeout tells, and without the timer a connection would hang. Connections are resumed
 * on the loop thread only, followed by endpoint_wake. */
#ifndef DAEMON_HTTP_ENDPOINT_H
#define DAEMON_HTTP_ENDPOINT_H

#include <microhttpd.h>
#include <stdbool.h>
#include <uv.h>

#include "base/config.h"
#include "base/log.h"
#include "http/conn.h"

struct http_server;

struct endpoint {
    struct http_server *server;
    struct conn_table *conns;
    const struct log *log;
    struct MHD_Daemon *mhd;
    uv_loop_t *loop;
    uv_poll_t listen_poll, mhd_poll;
    uv_timer_t timer;
    int listen_fd;
    int spare_fd; /* given up for a moment when descriptors run out */
    bool tls, listening, running;
    bool pumping;
    char *certificate, *key;
};

/* A bound, listening socket: from ADDR and port (0: any free one, told in *portp), */
int endpoint_listen_tcp(const char *addr, uint16_t *portp, char *why, size_t size);
/* or at a path, whose stale socket is replaced. The descriptor or a negative errno. */
int endpoint_listen_unix(const char *path, char *why, size_t size);

/* Takes listen_fd, on failure too. certificate and key are PEM files, NULL without TLS.
 * 0 or a negative errno with a sentence in why. */
int endpoint_start(struct endpoint *endpoint, struct http_server *server, uv_loop_t *loop,
                   struct conn_table *conns, const struct log *log, int listen_fd,
                   const char *certificate, const char *key, char *why, size_t size);

/* Accepts no more; the socket is closed. */
void endpoint_quiesce(struct endpoint *endpoint);

/* There is work for libmicrohttpd: it runs in the next turn of the loop. */
void endpoint_wake(struct endpoint *endpoint);

/* Ends it. No connection is suspended (libmicrohttpd would abort the process). Its handles are
 * closed once the loop has run. */
void endpoint_stop(struct endpoint *endpoint);

#endif
