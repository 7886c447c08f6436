#include "fixture.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 30000 };

long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void sleep_ms(long ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&t, NULL);
}

static const char *binary(void)
{
    const char *path = getenv("DPSGD_BIN");
    ck_assert_msg(path != NULL, "DPSGD_BIN must name the daemon");
    return path;
}

void fixture_configure(struct fixture *f, const char *config)
{
    char path[96];
    snprintf(path, sizeof path, "%s/dpsgd.conf", f->dir);
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    fprintf(out, "[Server]\nListen=127.0.0.1:0\n%s", config);
    fclose(out);
}

void fixture_prepare(struct fixture *f, const char *config)
{
    memset(f, 0, sizeof *f);
    strcpy(f->dir, "/tmp/dpsgd_test_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(f->dir));
    snprintf(f->state, sizeof f->state, "%s/state", f->dir);
    snprintf(f->log, sizeof f->log, "%s/log", f->dir);
    fixture_configure(f, config);
}

static void read_token(struct fixture *f)
{
    char path[128];
    snprintf(path, sizeof path, "%s/admin.token", f->state);
    FILE *in = fopen(path, "r");
    if (in == NULL) /* Mode=none has none */
        return;
    ck_assert_ptr_nonnull(fgets(f->token, sizeof f->token, in));
    f->token[strcspn(f->token, "\n")] = '\0';
    fclose(in);
}

/* Reads standard output until the line with the port. */
static void read_port(struct fixture *f, int fd)
{
    char text[256] = "";
    size_t n = 0;
    long until = now_ms() + WAIT_MS;
    while (strchr(text, '\n') == NULL) {
        struct pollfd p = { fd, POLLIN, 0 };
        ck_assert_msg(poll(&p, 1, (int)(until - now_ms())) > 0, "no line from the daemon");
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);
        ck_assert_msg(got > 0, "the daemon ended before it listened; log: %s", f->log);
        n += (size_t)got;
        text[n] = '\0';
    }
    ck_assert_msg(sscanf(text, "listening on 127.0.0.1:%d", &f->port) == 1, "got: %s", text);
}

void fixture_run(struct fixture *f, const char *environment)
{
    char config[96];
    int out[2], log;
    snprintf(config, sizeof config, "%s/dpsgd.conf", f->dir);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    log = open(f->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ck_assert_int_ge(log, 0);
    f->pid = fork();
    ck_assert_int_ge(f->pid, 0);
    if (f->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
        if (environment != NULL)
            putenv((char *)(uintptr_t)environment);
        execl(binary(), "dpsgd", "--config", config, "--state-dir", f->state, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    close(log);
    read_port(f, out[0]);
    close(out[0]);
    read_token(f);
}

void fixture_start(struct fixture *f, const char *config)
{
    fixture_prepare(f, config);
    fixture_run(f, NULL);
}

int fixture_end(struct fixture *f, int number)
{
    int status = 0;
    long until = now_ms() + WAIT_MS;
    kill(f->pid, number);
    while (waitpid(f->pid, &status, WNOHANG) == 0) {
        if (now_ms() > until) {
            kill(f->pid, SIGKILL);
            waitpid(f->pid, &status, 0);
            f->pid = 0;
            ck_abort_msg("the daemon did not end after signal %d", number);
        }
        sleep_ms(5);
    }
    f->pid = 0;
    return status;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

void fixture_stop(struct fixture *f)
{
    if (f->pid != 0)
        fixture_end(f, SIGTERM);
    if (f->dir[0] != '\0')
        nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    f->dir[0] = '\0';
}

int fixture_exec(const char *const *args, char *text, size_t size)
{
    const char *argv[16] = { "dpsgd" };
    int out[2], status;
    size_t n = 0;
    for (int i = 0; i < 14 && args[i] != NULL; i++)
        argv[i + 1] = args[i];
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], STDOUT_FILENO);
        dup2(out[1], STDERR_FILENO);
        alarm(WAIT_MS / 1000);
        execv(binary(), (char **)(uintptr_t)argv);
        _exit(127);
    }
    close(out[1]);
    ssize_t got;
    while (n < size - 1 && (got = read(out[0], text + n, size - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    close(out[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

double fixture_cpu_seconds(const struct fixture *f)
{
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)f->pid);
    FILE *in = fopen(path, "r");
    ck_assert_ptr_nonnull(in);
    size_t n = fread(text, 1, sizeof text - 1, in);
    fclose(in);
    text[n] = '\0';
    const char *rest = strrchr(text, ')');
    ck_assert_ptr_nonnull(rest);
    ck_assert_int_eq(sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                            &system),
                     2);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

int fixture_sockets(const struct fixture *f)
{
    char path[64], link[320], target[64];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)f->pid);
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        snprintf(link, sizeof link, "%s/%s", path, entry->d_name);
        ssize_t n = readlink(link, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = '\0';
        count += strncmp(target, "socket:", 7) == 0;
    }
    closedir(dir);
    return count;
}

bool fixture_logged(const struct fixture *f, const char *text)
{
    char line[4096];
    bool found = false;
    FILE *in = fopen(f->log, "r");
    while (in != NULL && !found && fgets(line, sizeof line, in) != NULL)
        found = strstr(line, text) != NULL;
    if (in != NULL)
        fclose(in);
    return found;
}
