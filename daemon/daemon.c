#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/env.h"
#include "data/datasets.h"
#include "http/auth.h"
#include "http/server.h"
#include "job/jobs.h"
#include "psg/blas.h"
#include "psg/device.h"
#include "psg/plugin.h"
#include "store/loop.h"
#include "store/store.h"
#include "stream/stream.h"
#include "upload/upload.h"

enum { WHY_MAX = 512, STATUS_EVERY_MS = 2000, EXPIRE_EVERY_MS = 60000 };

enum phase { PHASE_STARTING, PHASE_SERVING, PHASE_DRAINING, PHASE_STOPPED };

struct daemon {
    struct config *config;
    const struct daemon_source *source;
    struct log *log;
    const struct env *env;
    uv_loop_t loop;
    uv_signal_t signals[3]; /* SIGTERM, SIGINT, SIGHUP */
    uv_timer_t watchdog, status, expire;
    struct store *store;
    struct store_loop *store_loop;
    struct stream *stream;
    struct datasets *datasets;
    struct uploads *uploads;
    struct jobs *jobs;
    struct auth *auth;
    struct http_server *http;
    struct http_services services;
    struct psg_registry *registry; /* of plugins */
    struct psg_devices gpus;
    int state_dir, root_dir;
    enum phase phase;
    int exit_status;
    char state_path[4096];
};

static int cores_of(const struct config *config)
{
    long n = config->cores != 0 ? (long)config->cores : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (int)n;
}

static void jobs_settings(const struct daemon *d, struct jobs_config *settings)
{
    const struct config *config = d->config;
    *settings = (struct jobs_config){ .cores = cores_of(config),
                                      .max_running = (int)config->max_running,
                                      .max_queued_per_owner = config->jobs_per_owner,
                                      .step_events_per_s = 5,
                                      .registry = d->registry,
                                      .gpus = &d->gpus,
                                      .uploads = d->uploads,
                                      .checkpoint_every_s =
                                          (double)config->checkpoint_every * 1e-3 };
}

static bool upload_in_use(void *arg, const char *digest)
{
    const struct daemon *d = arg;
    return jobs_need_upload(d->jobs, digest);
}

static void uploads_settings(struct daemon *d, struct uploads_config *settings)
{
    const struct config *config = d->config;
    *settings = (struct uploads_config){ .max_bytes = config->upload_max_bytes,
                                         .per_owner = config->upload_per_owner,
                                         .max_piece = config->max_piece,
                                         .expire_ms = (int64_t)config->upload_expire,
                                         .in_use = upload_in_use,
                                         .arg = d };
}

static void complain(struct daemon *d, const char *what, const char *why)
{
    log_error(d->log, "start_failed", LOG_TEXT("what", what), LOG_TEXT("why", why));
}

/* The promises on disk cannot be vouched for any more: the loop ends, and so does the process. */
static void on_fatal(void *arg, int r)
{
    struct daemon *d = arg;
    if (d->phase == PHASE_STOPPED)
        return;
    log_error(d->log, "fatal", LOG_TEXT("class", error_name(r)));
    sd_notifyf(0, "STATUS=Failed: %s", error_name(r));
    d->exit_status = EXIT_FAILURE;
    d->phase = PHASE_STOPPED;
    uv_stop(&d->loop);
}

/* ---- the end ---- */

static void close_walk(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void on_http_stopped(void *arg)
{
    struct daemon *d = arg;
    d->phase = PHASE_STOPPED;
    uv_stop(&d->loop);
}

static void on_jobs_drained(void *arg)
{
    struct daemon *d = arg;
    log_info(d->log, "jobs_settled", LOG_INT("connections", d->http->conns.n));
    http_server_stop(d->http, d->config->drain_timeout, on_http_stopped, d);
}

static void drain(struct daemon *d)
{
    if (d->phase != PHASE_SERVING)
        return;
    d->phase = PHASE_DRAINING;
    log_notice(d->log, "draining", LOG_INT("connections", d->http->conns.n));
    sd_notifyf(0, "STOPPING=1\nSTATUS=Shutting down\nEXTEND_TIMEOUT_USEC=%" PRIu64,
               d->config->drain_timeout * 1000 + 10000000);
    http_server_drain(d->http);
    jobs_drain(d->jobs, on_jobs_drained, d);
}

/* ---- signals, watchdog, status ---- */

static void reload(struct daemon *d)
{
    struct config_error err = { "", "" };
    const char *pending = NULL;
    struct jobs_config settings;
    struct uploads_config uploads;
    sd_notify(0, "RELOADING=1");
    struct config *next = config_alloc();
    int r = next == NULL ? -ENOMEM : config_load(next, d->source->file, &err);
    if (r == 0)
        r = d->source->override(next, d->source->arg, &err);
    if (r == 0)
        r = config_check(next, &err);
    if (r == 0)
        r = config_reload(d->config, next, &pending);
    config_free(next);
    if (r != 0) {
        log_warning(d->log, "reload_refused", LOG_TEXT("place", err.place),
                    LOG_TEXT("why", err.text));
        sd_notifyf(0, "READY=1\nSTATUS=Old configuration kept: %s: %s", err.place, err.text);
        return;
    }
    d->log->level = config_log_level(d->config);
    jobs_settings(d, &settings);
    jobs_reconfigure(d->jobs, &settings);
    uploads_settings(d, &uploads);
    uploads_reconfigure(d->uploads, &uploads);
    http_server_reconfigure(d->http);
    log_notice(d->log, "reloaded", LOG_TEXT("needs_restart", pending));
    sd_notify(0, "READY=1");
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;
    if (number == SIGHUP && d->phase == PHASE_SERVING)
        reload(d);
    else if (number != SIGHUP && d->phase == PHASE_SERVING)
        drain(d);
}

/* Runs in the loop, so the loop is alive; a store that has failed must not look so. */
static void on_watchdog(uv_timer_t *timer)
{
    struct daemon *d = timer->data;
    if (store_failed(d->store) == 0)
        sd_notify(0, "WATCHDOG=1");
}

static void on_status(uv_timer_t *timer)
{
    struct daemon *d = timer->data;
    struct jobs_counts counts;
    if (d->phase != PHASE_SERVING)
        return;
    jobs_count(d->jobs, &counts);
    sd_notifyf(0, "STATUS=%" PRIu64 " running, %" PRIu64 " queued, %zu event streams",
               counts.by_status[JOB_STATUS_RUNNING], counts.by_status[JOB_STATUS_QUEUED],
               d->http->streams.n);
}

static void on_expire(uv_timer_t *timer)
{
    struct daemon *d = timer->data;
    uploads_expire(d->uploads);
}

static void start_timers(struct daemon *d)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
    uint64_t usec = 0;
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&d->loop, &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&d->loop, &d->watchdog);
    uv_timer_init(&d->loop, &d->status);
    uv_timer_init(&d->loop, &d->expire);
    d->watchdog.data = d->status.data = d->expire.data = d;
    uv_timer_start(&d->expire, on_expire, EXPIRE_EVERY_MS, EXPIRE_EVERY_MS);
    if (sd_watchdog_enabled(0, &usec) > 0)
        uv_timer_start(&d->watchdog, on_watchdog, 0, usec / 3000);
    if (getenv("NOTIFY_SOCKET") != NULL)
        uv_timer_start(&d->status, on_status, 0, STATUS_EVERY_MS);
}

/* ---- the beginning ---- */

/* Opens the state folder, which only its owner may read; makes it when it is missing. */
static int open_state(struct daemon *d, char *why)
{
    const char *dir = d->config->state_dir;
    const char *given = getenv("STATE_DIRECTORY"); /* from systemd: the first of a list */
    if (dir[0] != '\0')
        snprintf(d->state_path, sizeof d->state_path, "%s", dir);
    else if (given != NULL && given[0] == '/')
        snprintf(d->state_path, sizeof d->state_path, "%.*s", (int)strcspn(given, ":"), given);
    else
        snprintf(d->state_path, sizeof d->state_path, "/var/lib/dpsgd");
    if (mkdir(d->state_path, 0700) != 0 && errno != EEXIST) {
        snprintf(why, WHY_MAX, "%.300s: %s", d->state_path, strerror(errno));
        return -1;
    }
    d->state_dir = open(d->state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->state_dir < 0) {
        snprintf(why, WHY_MAX, "%.300s: %s", d->state_path, strerror(errno));
        return -1;
    }
    return 0;
}

static int open_core(struct daemon *d, char *why)
{
    char path[4200];
    struct jobs_config settings;
    struct uploads_config uploads;
    struct datasets_config data = { .root_dir = -1,
                                    .embedded = d->config->embedded != 0,
                                    .actor = "installation" };
    if (d->config->data_root[0] != '\0') {
        d->root_dir = open(d->config->data_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (d->root_dir < 0) {
            snprintf(why, WHY_MAX, "[Datasets] Root=%s: %s", d->config->data_root,
                     strerror(errno));
            return -1;
        }
        data.root_dir = d->root_dir;
    }
    snprintf(path, sizeof path, "%s/dpsgd.db", d->state_path);
    if (store_open(&d->store, d->env, path, why, WHY_MAX) != 0)
        return -1;
    d->store_loop = store_attach(d->store, &d->loop, on_fatal, d);
    d->stream = d->store_loop == NULL ? NULL : stream_new(d->store);
    if (d->stream == NULL) {
        snprintf(why, WHY_MAX, "out of memory");
        return -1;
    }
    uploads_settings(d, &uploads);
    if (uploads_open(&d->uploads, d->env, d->state_dir, &uploads, d->log, why, WHY_MAX) != 0)
        return -1;
    jobs_settings(d, &settings);
    if (datasets_open(&d->datasets, d->store, &data, why, WHY_MAX) != 0)
        return -1;
    return jobs_open(&d->jobs, d->store, d->stream, d->datasets, d->state_dir, &settings, d->log,
                     why, WHY_MAX);
}

/* Every word of [Plugins] Load=. */
static int open_plugins(struct daemon *d, char *why)
{
    char path[4096];
    struct psg_error err;
    if ((d->registry = psg_registry_new()) == NULL) {
        snprintf(why, WHY_MAX, "out of memory");
        return -1;
    }
    for (const char *at = d->config->plugins; *(at += strspn(at, " \t,")) != '\0';) {
        size_t n = strcspn(at, " \t,");
        snprintf(path, sizeof path, "%.*s", (int)n, at);
        if (psg_plugin_load(d->registry, path, &err) < 0) {
            snprintf(why, WHY_MAX, "[Plugins] Load=%.150s: %.300s", path, err.text);
            return -1;
        }
        log_notice(d->log, "plugin_loaded", LOG_TEXT("path", path));
        at += n;
    }
    return 0;
}

/* Once, at the start: a process of its own asks the driver, which takes a moment. */
static void look_for_gpus(struct daemon *d)
{
    psg_cuda_probe(NULL, &d->gpus);
    if (d->gpus.n == 0)
        log_notice(d->log, "no_gpu", LOG_TEXT("why", d->gpus.why));
    for (int i = 0; i < d->gpus.n; i++)
        log_notice(d->log, "gpu", LOG_TEXT("name", d->gpus.at[i].name));
}

static int open_http(struct daemon *d, char *why)
{
    int64_t now = d->env->realtime_ms(d->env);
    if (d->config->auth_mode == CONFIG_AUTH_TOKEN &&
        auth_open(&d->auth, d->env, d->state_path, why, WHY_MAX) != 0)
        return -1;
    d->services = (struct http_services){ .env = d->env,
                                          .config = d->config,
                                          .log = d->log,
                                          .auth = d->auth,
                                          .store = d->store,
                                          .stream = d->stream,
                                          .datasets = d->datasets,
                                          .uploads = d->uploads,
                                          .jobs = d->jobs,
                                          .started_ms = now,
                                          .version = DPSGD_VERSION,
                                          .cores = cores_of(d->config),
                                          .gpus = &d->gpus };
    return http_server_start(&d->http, &d->loop, &d->services, why, WHY_MAX);
}

/* "127.0.0.1:8477", with the port that was found. */
static void announce(struct daemon *d)
{
    char addr[256] = "";
    uint16_t port;
    config_split_listen(d->config->listen, addr, sizeof addr, &port);
    bool v6 = strchr(addr, ':') != NULL;
    printf("listening on %s%s%s:%u\n", v6 ? "[" : "", addr, v6 ? "]" : "", d->http->port);
    fflush(stdout);
    log_notice(d->log, "listening", LOG_TEXT("address", addr), LOG_INT("port", d->http->port),
               LOG_TEXT("state", d->state_path),
               LOG_TEXT("auth", d->config->auth_mode == CONFIG_AUTH_NONE ? "none" : "token"));
    sd_notifyf(0, "READY=1\nMAINPID=%ld\nSTATUS=Listening on %s:%u", (long)getpid(), addr,
               d->http->port);
}

static int start(struct daemon *d)
{
    char why[WHY_MAX] = "";
    struct psg_error err;
    if (psg_blas_check(cores_of(d->config), &err) < 0) {
        complain(d, "blas", err.text); /* its results could not be relied on */
        return -1;
    }
    look_for_gpus(d);
    if (open_plugins(d, why) != 0) {
        complain(d, "plugin", why);
        return -1;
    }
    if (open_state(d, why) != 0 || open_core(d, why) != 0) {
        complain(d, "state", why);
        return -1;
    }
    if (open_http(d, why) != 0) {
        complain(d, "http", why);
        return -1;
    }
    start_timers(d);
    if (jobs_start(d->jobs, &d->loop, on_fatal, d) != 0) {
        complain(d, "recovery", "the jobs of the last run cannot be brought back");
        return -1;
    }
    if (d->phase != PHASE_STARTING) /* a commit failed meanwhile */
        return -1;
    d->phase = PHASE_SERVING;
    announce(d);
    return 0;
}

static void release(struct daemon *d)
{
    d->jobs = jobs_close(d->jobs);
    d->datasets = datasets_close(d->datasets);
    d->uploads = uploads_close(d->uploads);
    d->stream = stream_free(d->stream);
    store_detach(d->store_loop);
    uv_walk(&d->loop, close_walk, NULL);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    d->store = store_close(d->store);
    d->auth = auth_close(d->auth);
    d->http = http_server_free(d->http);
    uv_loop_close(&d->loop);
    d->registry = psg_registry_free(d->registry);
    if (d->root_dir >= 0)
        close(d->root_dir);
    if (d->state_dir >= 0)
        close(d->state_dir);
}

int daemon_run(struct config *config, const struct daemon_source *source, struct log *log)
{
    struct daemon *d = calloc(1, sizeof *d);
    if (d == NULL || sodium_init() < 0 || uv_loop_init(&d->loop) != 0) {
        free(d);
        config_free(config);
        return EXIT_FAILURE;
    }
    d->config = config;
    d->source = source;
    d->log = log;
    d->env = env_system();
    d->state_dir = d->root_dir = -1;
    signal(SIGPIPE, SIG_IGN);
    umask(0077);
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }); /* memory holds private records */
    if (start(d) == 0)
        uv_run(&d->loop, UV_RUN_DEFAULT);
    else
        d->exit_status = EXIT_FAILURE;
    int status = d->exit_status;
    bool clean = d->phase == PHASE_STOPPED && status == 0;
    if (!clean)
        _exit(status); /* workers may still run; recovery at the next start repairs */
    if (http_server_busy(d->http)) {
        log_notice(log, "stopped", LOG_INT("status", status));
        _exit(status); /* all is settled; a file that does not end must not hold up the end */
    }
    release(d);
    log_notice(log, "stopped", LOG_INT("status", status));
    config_free(d->config);
    free(d);
    return status;
}
