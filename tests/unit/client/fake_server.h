/* A loopback server that gives scripted answers, one per connection, and keeps the
 * requests. */
#ifndef TESTS_FAKE_SERVER_H
#define TESTS_FAKE_SERVER_H

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAKE_ANSWERS_MAX 16
#define FAKE_REQUEST_MAX 65536

struct fake_server {
    int listener;
    char url[64];
    pthread_t thread;
    const char *answers[FAKE_ANSWERS_MAX]; /* whole HTTP answers; "" closes at once */
    size_t n_answers;
    size_t n_requests; /* read after fake_server_stop */
    char *requests[FAKE_ANSWERS_MAX];
};

/* head and body of one request; false when the peer closed before */
static inline bool fake_read_request(int fd, char *buf)
{
    size_t len = 0, need = 0;
    for (;;) {
        ssize_t n = recv(fd, buf + len, FAKE_REQUEST_MAX - 1 - len, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        buf[len] = '\0';
        char *end = strstr(buf, "\r\n\r\n");
        if (end && need == 0) {
            char *length = strcasestr(buf, "\r\nContent-Length:");
            need = (size_t)(end + 4 - buf);
            if (length && length < end)
                need += strtoul(length + 17, NULL, 10);
        }
        if (need && len >= need)
            return true;
    }
}

static inline void *fake_run(void *user)
{
    struct fake_server *s = user;
    for (size_t i = 0; i < s->n_answers; i++) {
        int fd = accept(s->listener, NULL, NULL);
        if (fd < 0)
            break;
        char *buf = calloc(1, FAKE_REQUEST_MAX);
        s->requests[s->n_requests++] = buf;
        if (fake_read_request(fd, buf)) {
            const char *p = s->answers[i];
            for (size_t left = strlen(p); left;) {
                /* small pieces: a reader must not rely on where they end */
                ssize_t n = send(fd, p, left > 7 ? 7 : left, MSG_NOSIGNAL);
                if (n <= 0)
                    break;
                p += n;
                left -= (size_t)n;
            }
        }
        shutdown(fd, SHUT_WR);
        while (recv(fd, (char[256]){ 0 }, 256, 0) > 0)
            continue;
        close(fd);
    }
    return NULL;
}

static inline void fake_server_start(struct fake_server *s, const char *const *answers)
{
    memset(s, 0, sizeof *s);
    for (; answers[s->n_answers]; s->n_answers++)
        s->answers[s->n_answers] = answers[s->n_answers];
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(s->listener, 0);
    ck_assert_int_eq(bind(s->listener, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(s->listener, 16), 0);
    ck_assert_int_eq(getsockname(s->listener, (struct sockaddr *)&address, &len), 0);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    ck_assert_int_eq(pthread_create(&s->thread, NULL, fake_run, s), 0);
}

static inline void fake_server_stop(struct fake_server *s)
{
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
}

static inline void fake_server_free(struct fake_server *s)
{
    for (size_t i = 0; i < s->n_requests; i++)
        free(s->requests[i]);
}

#endif
