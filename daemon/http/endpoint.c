#include "http/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http/server.h"

enum {
    BUDGET = 16,        /* turns of libmicrohttpd before the loop gets its turn */
    ACCEPT_BUDGET = 64, /* connections per turn */
    CONN_MEMORY = 8192, /* per connection: request line, headers, reply headers */
    USER_TIMEOUT_MS = 30000,
    PEM_MAX = 1 << 20
};

static int fail(int r, char *why, size_t size, const char *what)
{
    snprintf(why, size, "%s: %s", what, strerror(-r));
    return r;
}

int endpoint_listen_tcp(const char *addr, uint16_t *portp, char *why, size_t size)
{
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(*portp) };
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(*portp) };
    struct sockaddr *sa = (struct sockaddr *)&v4;
    socklen_t n = sizeof v4;
    int on = 1;
    if (strcmp(addr, "localhost") == 0)
        addr = "127.0.0.1";
    if (inet_pton(AF_INET6, addr, &v6.sin6_addr) == 1) {
        sa = (struct sockaddr *)&v6;
        n = sizeof v6;
    } else if (inet_pton(AF_INET, addr, &v4.sin_addr) != 1) {
        return fail(-EINVAL, why, size, addr);
    }
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(-errno, why, size, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, sa, n) != 0 || listen(fd, 1024) != 0 || getsockname(fd, sa, &n) != 0) {
        int r = -errno;
        close(fd);
        return fail(r, why, size, addr);
    }
    *portp = ntohs(sa->sa_family == AF_INET6 ? v6.sin6_port : v4.sin_port);
    return fd;
}

int endpoint_listen_unix(const char *path, char *why, size_t size)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    struct stat st;
    if (strlen(path) >= sizeof sa.sun_path)
        return fail(-ENAMETOOLONG, why, size, path);
    strcpy(sa.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(-errno, why, size, "socket");
    /* a socket that nobody listens on is left over from a daemon that was killed */
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
        connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0 && errno == ECONNREFUSED)
        unlink(path);
    close(fd);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(-errno, why, size, "socket");
    mode_t mask = umask(0177);
    int r = bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, 128) != 0 ? -errno : 0;
    umask(mask);
    if (r != 0) {
        close(fd);
        return fail(r, why, size, path);
    }
    return fd;
}

static void pump(struct endpoint *endpoint)
{
    MHD_UNSIGNED_LONG_LONG timeout = 0;
    int budget = BUDGET;
    bool more;
    if (!endpoint->running || endpoint->pumping)
        return;
    endpoint->pumping = true;
    do {
        MHD_run(endpoint->mhd);
        more = MHD_get_timeout(endpoint->mhd, &timeout) == MHD_YES;
    } while (more && timeout == 0 && --budget > 0);
    endpoint->pumping = false;
    if (more)
        endpoint_wake(endpoint);
    else
        uv_timer_stop(&endpoint->timer);
}

static void on_timer(uv_timer_t *timer)
{
    pump(timer->data);
}

static void on_mhd(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    pump(poll->data);
}

void endpoint_wake(struct endpoint *endpoint)
{
    /* our connections have no timeout inside libmicrohttpd, so there is only "now" */
    if (endpoint->running)
        uv_timer_start(&endpoint->timer, on_timer, 0, 0);
}

/* Out of descriptors: gives up the spare one, to take and drop the connection that waits. */
static void drop_one(struct endpoint *endpoint)
{
    if (endpoint->spare_fd < 0)
        return;
    close(endpoint->spare_fd);
    int fd = accept4(endpoint->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    endpoint->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    endpoint->conns->n_refused++;
}

static void on_listen(uv_poll_t *poll, int status, int events)
{
    struct endpoint *endpoint = poll->data;
    (void)status, (void)events;
    for (int i = 0; i < ACCEPT_BUDGET; i++) {
        struct sockaddr_storage addr = { .ss_family = AF_UNSPEC };
        struct sockaddr *sa = (struct sockaddr *)&addr;
        socklen_t n = sizeof addr;
        unsigned timeout = USER_TIMEOUT_MS;
        int on = 1;
        int fd = accept4(endpoint->listen_fd, sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE))
            drop_one(endpoint);
        if (fd < 0)
            break;
        if (!conn_admit(endpoint->conns, fd, sa, endpoint->tls)) {
            close(fd);
            continue;
        }
        if (sa->sa_family != AF_UNIX) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
            setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
        }
        if (sa->sa_family == AF_UNIX)
            n = sizeof(sa_family_t); /* unnamed peer */
        MHD_add_connection(endpoint->mhd, fd, sa, n); /* closes fd when it cannot */
    }
    endpoint_wake(endpoint);
}

static void on_log(void *cls, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));

static void on_log(void *cls, const char *fmt, va_list args)
{
    struct endpoint *endpoint = cls;
    char text[256];
    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = '\0';
    log_debug(endpoint->log, "http_library", LOG_TEXT("message", text));
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct endpoint *endpoint = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = conn_open(endpoint->conns, info->connect_fd, endpoint->tls);
    } else if (*context != NULL) {
        conn_close(*context);
        *context = NULL;
    }
}

static char *read_pem(const char *path)
{
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return NULL;
    char *text = malloc(PEM_MAX);
    size_t n = text == NULL ? 0 : fread(text, 1, PEM_MAX - 1, in);
    fclose(in);
    if (text != NULL)
        text[n] = '\0';
    return text;
}

static int start_mhd(struct endpoint *e)
{
    unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_USE_ERROR_LOG | (e->tls ? MHD_USE_TLS : 0u);
    struct MHD_OptionItem tls[] = { { MHD_OPTION_HTTPS_MEM_KEY, 0, e->key },
                                    { MHD_OPTION_HTTPS_MEM_CERT, 0, e->certificate },
                                    { MHD_OPTION_END, 0, NULL } };
    struct MHD_OptionItem none[] = { { MHD_OPTION_END, 0, NULL } };
    e->mhd = MHD_start_daemon(
        flags, 0, NULL, NULL, server_on_request, e->server, MHD_OPTION_EXTERNAL_LOGGER, on_log, e,
        MHD_OPTION_URI_LOG_CALLBACK, server_on_uri, e->server, MHD_OPTION_NOTIFY_COMPLETED,
        server_on_completed, e->server, MHD_OPTION_NOTIFY_CONNECTION, on_connection, e,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)e->conns->limits.max_connections,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONN_MEMORY, MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)1024,
        MHD_OPTION_ARRAY, e->tls ? tls : none, MHD_OPTION_END);
    return e->mhd == NULL ? -EIO : 0;
}

int endpoint_start(struct endpoint *e, struct http_server *server, uv_loop_t *loop,
                   struct conn_table *conns, const struct log *log, int listen_fd,
                   const char *certificate, const char *key, char *why, size_t size)
{
    *e = (struct endpoint){ .server = server, .loop = loop, .conns = conns, .log = log,
                            .listen_fd = listen_fd, .spare_fd = -1, .tls = certificate != NULL };
    if (e->tls) {
        e->certificate = read_pem(certificate);
        e->key = e->certificate == NULL ? NULL : read_pem(key);
        if (e->key == NULL) {
            int r = fail(-errno, why, size, e->certificate == NULL ? certificate : key);
            endpoint_stop(e);
            return r;
        }
    }
    int r = start_mhd(e);
    if (r != 0) {
        endpoint_stop(e);
        return fail(r, why, size, e->tls ? "the TLS server does not start with this certificate"
                                         : "the HTTP server does not start");
    }
    e->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    uv_timer_init(loop, &e->timer);
    uv_poll_init(loop, &e->mhd_poll,
                 MHD_get_daemon_info(e->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
    uv_poll_init(loop, &e->listen_poll, listen_fd);
    e->timer.data = e->mhd_poll.data = e->listen_poll.data = e;
    e->running = e->listening = true;
    uv_poll_start(&e->mhd_poll, UV_READABLE, on_mhd);
    uv_poll_start(&e->listen_poll, UV_READABLE, on_listen);
    return 0;
}

static void close_listener(uv_handle_t *handle)
{
    struct endpoint *endpoint = handle->data;
    close(endpoint->listen_fd);
    endpoint->listen_fd = -1;
}

void endpoint_quiesce(struct endpoint *endpoint)
{
    if (!endpoint->listening)
        return;
    endpoint->listening = false;
    uv_poll_stop(&endpoint->listen_poll);
    uv_close((uv_handle_t *)&endpoint->listen_poll, close_listener);
}

void endpoint_stop(struct endpoint *endpoint)
{
    endpoint_quiesce(endpoint);
    if (endpoint->running) {
        endpoint->running = false;
        uv_poll_stop(&endpoint->mhd_poll);
        uv_close((uv_handle_t *)&endpoint->mhd_poll, NULL);
        uv_close((uv_handle_t *)&endpoint->timer, NULL);
    } else if (endpoint->listen_fd >= 0 && endpoint->mhd == NULL) {
        close(endpoint->listen_fd); /* never started */
        endpoint->listen_fd = -1;
    }
    if (endpoint->mhd != NULL)
        MHD_stop_daemon(endpoint->mhd);
    endpoint->mhd = NULL;
    if (endpoint->spare_fd >= 0)
        close(endpoint->spare_fd);
    endpoint->spare_fd = -1;
    if (endpoint->key != NULL)
        explicit_bzero(endpoint->key, strlen(endpoint->key));
    free(endpoint->key);
    free(endpoint->certificate);
    endpoint->key = endpoint->certificate = NULL;
}
