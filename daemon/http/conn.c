#include "http/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PEER_BUCKETS = 1024,
    PER_ADDRESS_DEFAULT = 64,
    LINGER_MAX = 64,       /* sockets at a time */
    LINGER_MS = 5000,      /* each */
    LINGER_BYTES = 64 << 20 /* each */
};

struct conn_peer {
    struct conn_peer *next; /* in its bucket */
    uint8_t key[16];        /* IPv6, or IPv4 mapped into it; all zero for the Unix socket */
    size_t n;
};

static void peer_key(const struct sockaddr *addr, uint8_t key[16])
{
    memset(key, 0, 16);
    if (addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)addr;
        key[10] = key[11] = 0xff;
        memcpy(key + 12, &in->sin_addr, 4);
    } else if (addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)addr;
        memcpy(key, &in->sin6_addr, 16);
    }
}

static bool is_mapped(const uint8_t key[16])
{
    static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
    return memcmp(key, prefix, 12) == 0;
}

static bool is_loopback(const uint8_t key[16])
{
    static const uint8_t one[16] = { [15] = 1 };
    return is_mapped(key) ? key[12] == 127 : memcmp(key, one, 16) == 0;
}

static bool is_unix(const uint8_t key[16])
{
    static const uint8_t zero[16];
    return memcmp(key, zero, 16) == 0;
}

static struct conn_peer **peer_slot(struct conn_table *table, const uint8_t key[16])
{
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, key, 16, table->hash_key);
    struct conn_peer **slot = &table->peers[hash % PEER_BUCKETS];
    while (*slot != NULL && memcmp((*slot)->key, key, 16) != 0)
        slot = &(*slot)->next;
    return slot;
}

static void list_remove(struct conn_list *list, struct conn *conn)
{
    *(conn->prev != NULL ? &conn->prev->next : &list->head) = conn->next;
    *(conn->next != NULL ? &conn->next->prev : &list->tail) = conn->prev;
    conn->prev = conn->next = NULL;
}

static void list_append(struct conn_list *list, struct conn *conn)
{
    conn->prev = list->tail;
    *(list->tail != NULL ? &list->tail->next : &list->head) = conn;
    list->tail = conn;
}

/* A whole answer written past libmicrohttpd, for when it has none of its own to give. */
static void send_raw(int fd, const char *status_line, const char *slug, int status)
{
    unsigned char random[16];
    char id[33], body[160], text[512];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(id, sizeof id, random, sizeof random);
    int n = snprintf(body, sizeof body,
                     "{\"type\":\"/problems/%s\",\"status\":%d,\"request_id\":\"%s\"}\n", slug,
                     status, id);
    n = snprintf(text, sizeof text,
                 "HTTP/1.1 %s\r\nContent-Type: application/problem+json\r\n"
                 "Content-Length: %d\r\nX-Request-Id: %s\r\nRetry-After: 1\r\n"
                 "Connection: close\r\n\r\n%s",
                 status_line, n, id, body);
    ssize_t sent = send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent; /* a client that cannot take 300 bytes gets none */
}

static void expire(struct conn *conn)
{
    conn->table->n_timeouts++;
    if (!conn->tls && (conn->phase == CONN_HEADERS || conn->phase == CONN_BODY))
        send_raw(conn->fd, "408 Request Timeout", "request-timeout", 408);
    shutdown(conn->fd, SHUT_RDWR); /* libmicrohttpd notices and closes */
    list_remove(&conn->table->lists[conn->phase], conn);
    conn->phase = CONN_STREAM; /* once is enough */
    list_append(&conn->table->lists[CONN_STREAM], conn);
}

static void arm(struct conn_table *table);

static void on_timer(uv_timer_t *timer)
{
    struct conn_table *table = timer->data;
    uint64_t now = uv_now(table->loop);
    for (int phase = 0; phase < CONN_STREAM; phase++)
        while (table->lists[phase].head != NULL && table->lists[phase].head->deadline <= now)
            expire(table->lists[phase].head);
    arm(table);
}

/* Sets the timer to the earliest deadline. */
static void arm(struct conn_table *table)
{
    uint64_t first = UINT64_MAX, now = uv_now(table->loop);
    for (int phase = 0; phase < CONN_STREAM; phase++)
        if (table->lists[phase].head != NULL && table->lists[phase].head->deadline < first)
            first = table->lists[phase].head->deadline;
    if (first == UINT64_MAX || table->closed)
        uv_timer_stop(&table->timer);
    else
        uv_timer_start(&table->timer, on_timer, first > now ? first - now : 0, 0);
}

int conn_table_init(struct conn_table *table, uv_loop_t *loop, const struct conn_limits *limits)
{
    *table = (struct conn_table){ .loop = loop, .limits = *limits };
    table->peers = calloc(PEER_BUCKETS, sizeof *table->peers);
    if (table->peers == NULL)
        return -ENOMEM;
    randombytes_buf(table->hash_key, sizeof table->hash_key);
    uv_timer_init(loop, &table->timer);
    table->timer.data = table;
    return 0;
}

void conn_table_close(struct conn_table *table)
{
    if (table->closed || table->peers == NULL)
        return;
    table->closed = true;
    free(table->peers);
    table->peers = NULL;
    uv_close((uv_handle_t *)&table->timer, NULL);
}

bool conn_admit(struct conn_table *table, int fd, const struct sockaddr *addr, bool tls)
{
    uint8_t key[16];
    peer_key(addr, key);
    if (table->n >= table->limits.max_connections) {
        table->n_refused++;
        if (!tls)
            send_raw(fd, "503 Service Unavailable", "overloaded", 503);
        return false;
    }
    size_t most = table->limits.max_per_address;
    if (most == 0)
        most = is_loopback(key) ? SIZE_MAX : PER_ADDRESS_DEFAULT;
    struct conn_peer *peer = *peer_slot(table, key);
    if (peer == NULL || peer->n < most || is_unix(key))
        return true;
    table->n_refused++;
    if (!tls)
        send_raw(fd, "429 Too Many Requests", "too-many-requests", 429);
    return false;
}

struct conn *conn_open(struct conn_table *table, int fd, bool tls)
{
    struct sockaddr_storage addr = { .ss_family = AF_UNSPEC };
    socklen_t size = sizeof addr;
    struct ucred cred;
    uint8_t key[16];
    struct conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return NULL;
    getpeername(fd, (struct sockaddr *)&addr, &size); /* may be gone already: then unknown */
    peer_key((struct sockaddr *)&addr, key);
    struct conn_peer **slot = peer_slot(table, key);
    if (*slot == NULL) {
        *slot = calloc(1, sizeof **slot);
        if (*slot == NULL) {
            free(conn);
            return NULL;
        }
        memcpy((*slot)->key, key, sizeof key);
    }
    conn->table = table;
    conn->peer = *slot;
    conn->peer->n++;
    conn->fd = fd;
    conn->tls = tls;
    size = sizeof cred;
    if (addr.ss_family == AF_UNIX && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) == 0) {
        conn->local = true;
        conn->uid = cred.uid;
    }
    conn->over = ++table->n > table->limits.soft_connections;
    conn->phase = CONN_STREAM;
    list_append(&table->lists[CONN_STREAM], conn);
    conn_set_phase(conn, CONN_HEADERS);
    return conn;
}

/* A socket that is read and forgotten until the client has closed it. */
struct leaver {
    uv_poll_t poll;
    uv_timer_t timer;
    struct conn_table *table;
    int fd;
    int n_open; /* handles */
    size_t bytes;
};

static void linger_closed(uv_handle_t *handle)
{
    struct leaver *linger = handle->data;
    if (--linger->n_open > 0)
        return;
    close(linger->fd);
    linger->table->n_lingering--;
    free(linger);
}

static void linger_end(struct leaver *linger)
{
    if (uv_is_closing((uv_handle_t *)&linger->timer))
        return;
    uv_close((uv_handle_t *)&linger->poll, linger_closed);
    uv_close((uv_handle_t *)&linger->timer, linger_closed);
}

static void linger_timeout(uv_timer_t *timer)
{
    linger_end(timer->data);
}

static void linger_readable(uv_poll_t *poll, int status, int events)
{
    struct leaver *linger = poll->data;
    char scratch[16384];
    (void)events;
    for (int i = 0; status == 0 && i < 64; i++) {
        ssize_t n = recv(linger->fd, scratch, sizeof scratch, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0 || (linger->bytes += (size_t)n) > LINGER_BYTES) {
            status = -1;
            break;
        }
    }
    if (status != 0)
        linger_end(linger);
}

static void linger_start(struct conn_table *table, int fd)
{
    struct leaver *linger = calloc(1, sizeof *linger);
    if (linger == NULL)
        return;
    linger->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (linger->fd < 0 || uv_poll_init(table->loop, &linger->poll, linger->fd) != 0) {
        if (linger->fd >= 0)
            close(linger->fd);
        free(linger);
        return;
    }
    linger->table = table;
    linger->n_open = 2;
    linger->poll.data = linger->timer.data = linger;
    table->n_lingering++;
    uv_timer_init(table->loop, &linger->timer);
    uv_timer_start(&linger->timer, linger_timeout, LINGER_MS, 0);
    uv_poll_start(&linger->poll, UV_READABLE, linger_readable);
}

void conn_close(struct conn *conn)
{
    struct conn_table *table = conn->table;
    if (conn->linger && !conn->tls && table->n_lingering < LINGER_MAX)
        linger_start(table, conn->fd);
    list_remove(&table->lists[conn->phase], conn);
    table->n--;
    struct conn_peer *peer = conn->peer;
    if (--peer->n == 0) {
        struct conn_peer **slot = peer_slot(table, peer->key);
        *slot = peer->next;
        free(peer);
    }
    free(conn);
}

void conn_set_phase(struct conn *conn, enum conn_phase phase)
{
    struct conn_table *table = conn->table;
    list_remove(&table->lists[conn->phase], conn);
    conn->phase = phase;
    conn->deadline = uv_now(table->loop) + table->limits.timeout[phase];
    list_append(&table->lists[phase], conn);
    if (phase != CONN_STREAM && !uv_is_active((uv_handle_t *)&table->timer))
        arm(table);
    else if (phase != CONN_STREAM &&
             uv_timer_get_due_in(&table->timer) > table->limits.timeout[phase])
        arm(table);
}

void conn_touch(struct conn *conn)
{
    conn_set_phase(conn, conn->phase);
}

bool conn_refuse(struct conn *conn, const char *status_line, const char *slug, int status)
{
    if (conn->tls)
        return false;
    send_raw(conn->fd, status_line, slug, status);
    conn->linger = true;
    return true;
}

void conn_close_idle(struct conn_table *table)
{
    for (struct conn *c = table->lists[CONN_IDLE].head; c != NULL; c = c->next)
        shutdown(c->fd, SHUT_RDWR);
    /* one that has not begun its first request waits like an idle one */
    for (struct conn *c = table->lists[CONN_HEADERS].head; c != NULL; c = c->next)
        shutdown(c->fd, SHUT_RDWR);
}

void conn_abort_all(struct conn_table *table)
{
    for (int phase = 0; phase < CONN_N_PHASES; phase++)
        for (struct conn *c = table->lists[phase].head; c != NULL; c = c->next)
            shutdown(c->fd, SHUT_RDWR);
}

void conn_peer_text(const struct conn *conn, char *buf, size_t size)
{
    const uint8_t *key = conn->peer->key;
    char text[INET6_ADDRSTRLEN] = "unix";
    if (is_mapped(key))
        inet_ntop(AF_INET, key + 12, text, sizeof text);
    else if (!is_unix(key))
        inet_ntop(AF_INET6, key, text, sizeof text);
    snprintf(buf, size, "%s", text);
}
