#include "http/server.h"

#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "http/work.h"

enum {
    FD_RESERVE = 96,    /* database, files, workers, lingering sockets */
    PROBE_RESERVE = 32, /* connections kept for health probes */
    DRAIN_TICK_MS = 20
};

bool http_server_busy(const struct http_server *server)
{
    return server->n_works > 0;
}

bool server_is_draining(const struct http_server *server)
{
    return server->draining;
}

void server_wake(struct http_server *server)
{
    for (int i = 0; i < server->n_endpoints; i++)
        endpoint_wake(&server->endpoints[i]);
}

static void read_limits(const struct http_services *services, struct conn_limits *limits)
{
    const struct config *config = services->config;
    struct rlimit files = { 0, 0 };
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_NOFILE, &files);
    }
    size_t most = files.rlim_cur == RLIM_INFINITY || files.rlim_cur > 1000000
                      ? 1000000
                      : (size_t)files.rlim_cur;
    most = most > 2 * FD_RESERVE ? most - FD_RESERVE : most / 2;
    if (config->max_connections != 0 && config->max_connections < most)
        most = (size_t)config->max_connections;
    limits->max_connections = most;
    limits->soft_connections = most > 4 * PROBE_RESERVE ? most - PROBE_RESERVE : most;
    limits->max_per_address = (size_t)config->max_per_address;
    limits->timeout[CONN_IDLE] = config->idle_timeout;
    limits->timeout[CONN_HEADERS] = config->header_timeout;
    limits->timeout[CONN_BODY] = config->body_timeout;
    limits->timeout[CONN_ANSWER] = config->request_timeout;
    limits->timeout[CONN_STREAM] = 0;
}

void http_server_reconfigure(struct http_server *server)
{
    struct conn_limits limits;
    read_limits(server->services, &limits);
    /* libmicrohttpd got its limit at the start */
    limits.max_connections = server->conns.limits.max_connections;
    limits.soft_connections = server->conns.limits.soft_connections;
    server->conns.limits = limits;
}

static int start_endpoints(struct http_server *server, char *why, size_t size)
{
    const struct config *config = server->services->config;
    char addr[256];
    bool tls = config->tls_certificate[0] != '\0';
    if (config_split_listen(config->listen, addr, sizeof addr, &server->port) != 0)
        return -EINVAL;
    int fd = endpoint_listen_tcp(addr, &server->port, why, size);
    if (fd < 0)
        return fd;
    int r = endpoint_start(&server->endpoints[0], server, server->loop, &server->conns,
                           server->services->log, fd, tls ? config->tls_certificate : NULL,
                           tls ? config->tls_key : NULL, why, size);
    if (r != 0)
        return r;
    server->n_endpoints = 1;
    if (config->unix_socket[0] == '\0')
        return 0;
    fd = endpoint_listen_unix(config->unix_socket, why, size);
    if (fd < 0)
        return fd;
    snprintf(server->unix_socket, sizeof server->unix_socket, "%s", config->unix_socket);
    r = endpoint_start(&server->endpoints[1], server, server->loop, &server->conns,
                       server->services->log, fd, NULL, NULL, why, size);
    if (r == 0)
        server->n_endpoints = 2;
    return r;
}

static void shut(struct http_server *server)
{
    for (int i = 0; i < server->n_endpoints; i++)
        endpoint_stop(&server->endpoints[i]);
    if (server->unix_socket[0] != '\0')
        unlink(server->unix_socket);
    sse_table_close(&server->streams);
    conn_table_close(&server->conns);
    uv_close((uv_handle_t *)&server->drain_timer, NULL);
}

int http_server_start(struct http_server **serverp, uv_loop_t *loop,
                      const struct http_services *services, char *why, size_t size)
{
    struct conn_limits limits;
    struct http_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return -ENOMEM;
    *serverp = server;
    server->loop = loop;
    server->services = services;
    read_limits(services, &limits);
    uv_timer_init(loop, &server->drain_timer);
    server->drain_timer.data = server;
    /* a sixteenth of the connections, at least, is never taken by streams */
    sse_table_init(&server->streams, server,
                   limits.soft_connections - limits.soft_connections / 16);
    int r = conn_table_init(&server->conns, loop, &limits);
    if (r == 0)
        r = start_endpoints(server, why, size);
    if (r != 0)
        shut(server);
    return r;
}

void http_server_drain(struct http_server *server)
{
    server->draining = true;
    sse_end_all(&server->streams);
    server_wake(server);
}

static void on_drain(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    uint64_t now = uv_now(server->loop);
    conn_close_idle(&server->conns);
    if (server->conns.n > 0 && now < server->drain_deadline)
        return;
    work_abandon_all(server); /* libmicrohttpd cannot stop with parked connections */
    if (server->conns.n > 0 && now < server->drain_deadline + 1000) {
        conn_abort_all(&server->conns);
        return;
    }
    uv_timer_stop(&server->drain_timer);
    shut(server);
    server->on_stopped(server->stopped_arg);
}

void http_server_stop(struct http_server *server, uint64_t grace_ms, void (*done)(void *arg),
                      void *arg)
{
    server->stopping = true;
    server->on_stopped = done;
    server->stopped_arg = arg;
    server->drain_deadline = uv_now(server->loop) + grace_ms;
    for (int i = 0; i < server->n_endpoints; i++)
        endpoint_quiesce(&server->endpoints[i]);
    uv_timer_start(&server->drain_timer, on_drain, 0, DRAIN_TICK_MS);
}

struct http_server *http_server_free(struct http_server *server)
{
    free(server);
    return NULL;
}
