#include "http/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "http/route.h"
#include "http/server.h"
#include "job/jobs.h"
#include "proto/job.h"
#include "store/store.h"
#include "stream/stream.h"

static const double bounds[METRICS_BUCKETS] = { 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 10 };

void metrics_count(struct metrics *metrics, size_t route, unsigned code, double seconds,
                   int is_stream)
{
    struct metrics_route *r = &metrics->routes[route < n_routes ? route : METRICS_ROUTES_MAX];
    int i = 0;
    while (i < METRICS_CODES_MAX - 1 && r->codes[i].code != code && r->codes[i].n > 0)
        i++; /* the last place takes what does not fit elsewhere */
    r->codes[i].code = code;
    r->codes[i].n++;
    if (is_stream)
        return;
    for (i = 0; i < METRICS_BUCKETS && seconds > bounds[i]; i++)
        continue;
    r->buckets[i]++;
    r->seconds += seconds;
}

/* "/jobs/{}" as the label "/jobs/{id}". */
static void put_pattern(FILE *out, const struct route *route)
{
    if (route == NULL) {
        fputs("none", out);
        return;
    }
    for (const char *p = route->pattern; *p != '\0'; p++) {
        fputc(*p, out);
        if (p[0] == '{' && p[1] == '}')
            fputs("id", out);
    }
}

static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_value(FILE *out, const char *name, const char *type, const char *help,
                      double value)
{
    put_head(out, name, type, help);
    fprintf(out, "%s %.17g\n", name, value);
}

static const struct route *route_at(size_t i)
{
    return i < n_routes ? &routes[i] : NULL;
}

static void put_requests(FILE *out, const struct metrics *metrics)
{
    put_head(out, "dpsgd_http_requests_total", "counter", "Requests answered.");
    for (size_t i = 0; i <= METRICS_ROUTES_MAX; i++)
        for (int c = 0; c < METRICS_CODES_MAX && metrics->routes[i].codes[c].n > 0; c++) {
            fputs("dpsgd_http_requests_total{route=\"", out);
            put_pattern(out, route_at(i));
            fprintf(out, "\",method=\"%s\",code=\"%u\"} %" PRIu64 "\n",
                    route_at(i) != NULL ? route_method_name(routes[i].method) : "other",
                    metrics->routes[i].codes[c].code, metrics->routes[i].codes[c].n);
        }
}

static void put_durations(FILE *out, const struct metrics *metrics)
{
    static const char name[] = "dpsgd_http_request_duration_seconds";
    put_head(out, name, "histogram", "From the request's first line to the end of its answer.");
    for (size_t i = 0; i < n_routes; i++) {
        const struct metrics_route *r = &metrics->routes[i];
        uint64_t n = 0;
        const char *method = route_method_name(routes[i].method);
        for (int b = 0; b <= METRICS_BUCKETS; b++)
            n += r->buckets[b];
        if (n == 0)
            continue;
        n = 0;
        for (int b = 0; b <= METRICS_BUCKETS; b++) {
            n += r->buckets[b];
            fprintf(out, "%s_bucket{route=\"", name);
            put_pattern(out, &routes[i]);
            if (b < METRICS_BUCKETS)
                fprintf(out, "\",method=\"%s\",le=\"%g\"} %" PRIu64 "\n", method, bounds[b], n);
            else
                fprintf(out, "\",method=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", method, n);
        }
        fprintf(out, "%s_sum{route=\"", name);
        put_pattern(out, &routes[i]);
        fprintf(out, "\",method=\"%s\"} %.9g\n%s_count{route=\"", method, r->seconds, name);
        put_pattern(out, &routes[i]);
        fprintf(out, "\",method=\"%s\"} %" PRIu64 "\n", method, n);
    }
}

static void put_connections(FILE *out, const struct http_server *server)
{
    put_value(out, "dpsgd_connections", "gauge", "Open connections.", (double)server->conns.n);
    put_value(out, "dpsgd_connections_max", "gauge", "Connections that are possible.",
              (double)server->conns.limits.max_connections);
    put_value(out, "dpsgd_connections_refused_total", "counter",
              "Connections refused by a limit.", (double)server->conns.n_refused);
    put_value(out, "dpsgd_connections_timed_out_total", "counter",
              "Connections closed because a deadline had passed.",
              (double)server->conns.n_timeouts);
    put_value(out, "dpsgd_http_unauthorized_total", "counter", "Requests with a wrong token.",
              (double)server->metrics.logins_failed);
    put_value(out, "dpsgd_http_body_bytes", "gauge", "Memory held by request bodies.",
              (double)(server->body_bytes + server->piece_bytes));
    put_value(out, "dpsgd_streams", "gauge", "Open event streams.", (double)server->streams.n);
    put_value(out, "dpsgd_streams_opened_total", "counter", "Event streams opened.",
              (double)server->streams.n_opened);
    put_value(out, "dpsgd_streams_vanished_total", "counter",
              "Event streams whose client left while nothing was to be sent.",
              (double)server->streams.n_vanished);
    put_value(out, "dpsgd_stream_deliveries_total", "counter",
              "Events handed to event streams.", (double)server->streams.n_events);
}

static void put_core(FILE *out, const struct http_services *services)
{
    struct jobs_counts counts;
    uint64_t commits = 0, subs = 0, events = 0;
    double seconds = 0;
    jobs_count(services->jobs, &counts);
    put_head(out, "dpsgd_jobs", "gauge", "Jobs by status.");
    for (int s = JOB_STATUS_QUEUED; s <= JOB_STATUS_CANCELLED; s++)
        fprintf(out, "dpsgd_jobs{status=\"%s\"} %" PRIu64 "\n", job_status_name(s),
                counts.by_status[s]);
    put_value(out, "dpsgd_steps_total", "counter", "Optimizer steps taken.",
              (double)counts.steps);
    put_value(out, "dpsgd_worker_last_step_age_seconds", "gauge",
              "Time since the last step of the running job that is slowest.",
              counts.oldest_step_age_s);
    store_stats(services->store, &commits, &seconds);
    put_value(out, "dpsgd_store_commits_total", "counter", "Durable transactions.",
              (double)commits);
    put_value(out, "dpsgd_store_commit_seconds_total", "counter", "Time spent committing.",
              seconds);
    stream_stats(services->stream, &subs, &events);
    put_value(out, "dpsgd_stream_events_total", "counter", "Events written to job logs.",
              (double)events);
}

/* The names that Prometheus' own clients use. */
static void put_process(FILE *out, const struct http_services *services)
{
    struct timespec cpu;
    long pages = 0, resident = 0;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    FILE *in = fopen("/proc/self/statm", "re");
    if (in != NULL) {
        if (fscanf(in, "%ld %ld", &pages, &resident) != 2)
            resident = 0;
        fclose(in);
    }
    put_value(out, "process_cpu_seconds_total", "counter", "User and system time.",
              (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    put_value(out, "process_resident_memory_bytes", "gauge", "Resident memory.",
              (double)resident * (double)sysconf(_SC_PAGESIZE));
    put_value(out, "process_start_time_seconds", "gauge", "Start, since 1970.",
              (double)services->started_ms / 1000);
    put_head(out, "dpsgd_build_info", "gauge", "Version of the daemon.");
    fprintf(out, "dpsgd_build_info{version=\"%s\"} 1\n", services->version);
}

char *metrics_text(struct http_server *server, size_t *np)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, np);
    if (out == NULL)
        return NULL;
    put_process(out, server->services);
    put_core(out, server->services);
    put_connections(out, server);
    put_requests(out, &server->metrics);
    put_durations(out, &server->metrics);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
