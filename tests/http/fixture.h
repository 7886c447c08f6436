/* A daemon under test. */
#ifndef TESTS_HTTP_FIXTURE_H
#define TESTS_HTTP_FIXTURE_H

#include <stdbool.h>
#include <sys/types.h>

struct fixture {
    pid_t pid; /* 0: not running */
    int port;
    char dir[64];   /* holds state/ and dpsgd.conf */
    char state[80];
    char token[64]; /* the admin's */
    char log[80];   /* file with the daemon's standard error */
};

/* A folder and a configuration: [Server] Listen=127.0.0.1:0, then the given lines. */
void fixture_prepare(struct fixture *f, const char *config);

/* Replaces the configuration's lines. */
void fixture_configure(struct fixture *f, const char *config);

/* Starts it, waits for "listening on" and reads the token. May be called again after it ended.
 * environment: NULL or one NAME=VALUE to add. */
void fixture_run(struct fixture *f, const char *environment);

/* prepare and run */
void fixture_start(struct fixture *f, const char *config);

/* Signals it and waits (30 s at most) for its end; the wait status. */
int fixture_end(struct fixture *f, int signal);

/* SIGTERM when it still runs; removes the folder. */
void fixture_stop(struct fixture *f);

/* Runs the daemon with these arguments to its end; exit status, both outputs in text[size]. */
int fixture_exec(const char *const *args, char *text, size_t size);

/* User and system time of the process so far, in seconds. */
double fixture_cpu_seconds(const struct fixture *f);

/* Open descriptors that are sockets. */
int fixture_sockets(const struct fixture *f);

/* Whether the log has this text. */
bool fixture_logged(const struct fixture *f, const char *text);

/* Milliseconds of a clock that never steps; sleeping between two looks at something. */
long now_ms(void);
void sleep_ms(long ms);

/* Looks every 20 ms until the condition holds, for 100 s at most. */
#define WAIT_UNTIL(condition)                                                                  \
    do {                                                                                       \
        long until_ = now_ms() + 100000;                                                        \
        while (!(condition) && now_ms() < until_)                                              \
            sleep_ms(20);                                                                      \
        ck_assert_msg((condition), "did not happen: %s", #condition);                          \
    } while (0)

#endif
