#include "progress.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#define BAR_INTERVAL_MS  100
#define LINE_INTERVAL_MS 2000
#define BAR_CELLS        24
#define SMOOTHING        0.9

void progress_init(struct progress *p, FILE *out, bool terminal, int width, bool json)
{
    *p = (struct progress){ .out = out,
                            .terminal = terminal && !json,
                            .json = json,
                            .width = width > 20 ? width : 80,
                            .shown_ms = -1,
                            .smooth_loss = NAN };
}

/* appends at *n what fits */
static void append(char *buf, size_t size, size_t *n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void append(char *buf, size_t size, size_t *n, const char *fmt, ...)
{
    va_list args;
    if (*n >= size)
        return;
    va_start(args, fmt);
    int k = vsnprintf(buf + *n, size - *n, fmt, args);
    va_end(args);
    *n += k > 0 ? (size_t)k : 0;
}

static void append_eta(char *buf, size_t size, size_t *n, double seconds)
{
    if (isnan(seconds) || seconds < 0 || seconds > 1e9)
        return;
    long s = (long)seconds;
    if (s >= 3600)
        append(buf, size, n, "  eta %ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        append(buf, size, n, "  eta %ld:%02ld", s / 60, s % 60);
}

/* "step 120/400  loss 0.71  clipped 82%  epsilon 1.27  eta 0:03": what is known */
static void step_text(const struct progress *p, const struct dpc_event *e, char *buf,
                      size_t size)
{
    size_t n = 0;
    append(buf, size, &n, "step %lld/%lld", (long long)e->step, (long long)e->of);
    if (!isnan(p->smooth_loss))
        append(buf, size, &n, "  loss %.4g", p->smooth_loss);
    if (!isnan(e->clip_fraction))
        append(buf, size, &n, "  clipped %.0f%%", 100 * e->clip_fraction);
    if (!isnan(e->epsilon))
        append(buf, size, &n, "  epsilon %.4g", e->epsilon);
    if (!isnan(e->examples_per_s))
        append(buf, size, &n, "  %.4g examples/s", e->examples_per_s);
    append_eta(buf, size, &n, e->eta_s);
    if (e->is_private)
        append(buf, size, &n, "  (private)");
}

static void draw_bar(struct progress *p, const struct dpc_event *e)
{
    char cells[BAR_CELLS + 1], text[256];
    double share = e->of > 0 ? (double)e->step / (double)e->of : 0;
    int full = share >= 1 ? BAR_CELLS : share > 0 ? (int)(share * BAR_CELLS) : 0;
    memset(cells, '.', BAR_CELLS);
    memset(cells, '#', (size_t)full);
    cells[BAR_CELLS] = '\0';
    step_text(p, e, text, sizeof text);
    int room = p->width - BAR_CELLS - 4;
    /* \033[K clears what a longer line before it left */
    fprintf(p->out, "\r[%s] %.*s\033[K", cells, room > 0 ? room : 0, text);
    fflush(p->out);
    p->bar = true;
}

static void show_step(struct progress *p, const struct dpc_event *e, int64_t now_ms)
{
    char text[256];
    if (!isnan(e->loss))
        p->smooth_loss = isnan(p->smooth_loss)
                             ? e->loss
                             : SMOOTHING * p->smooth_loss + (1 - SMOOTHING) * e->loss;
    int64_t interval = p->terminal ? BAR_INTERVAL_MS : LINE_INTERVAL_MS;
    if (p->shown_ms >= 0 && now_ms - p->shown_ms < interval && e->step != e->of)
        return;
    p->shown_ms = now_ms;
    if (p->terminal) {
        draw_bar(p, e);
        return;
    }
    step_text(p, e, text, sizeof text);
    fprintf(p->out, "%s\n", text);
}

static void put_safe(FILE *out, const char *text)
{
    for (; text && *text; text++)
        fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, out);
}

static void show_eval(struct progress *p, const struct dpc_event *e)
{
    fprintf(p->out, "eval at step %lld", (long long)e->step);
    if (e->split) {
        fprintf(p->out, " on ");
        put_safe(p->out, e->split);
    }
    if (!isnan(e->loss))
        fprintf(p->out, ": loss %.4f", e->loss);
    if (!isnan(e->accuracy))
        fprintf(p->out, "%s accuracy %.4f", isnan(e->loss) ? ":" : ",", e->accuracy);
    fputc('\n', p->out);
}

void progress_end(struct progress *p)
{
    if (p->bar)
        fputc('\n', p->out);
    p->bar = false;
    fflush(p->out);
}

/* a line "name: what (why)" */
static void show_line(struct progress *p, const char *name, const char *what,
                      const char *why)
{
    fprintf(p->out, "%s: ", name);
    put_safe(p->out, what);
    if (why && why[0]) {
        fprintf(p->out, " (");
        put_safe(p->out, why);
        fputc(')', p->out);
    }
    fputc('\n', p->out);
}

void progress_event(struct progress *p, const struct dpc_event *e, int64_t now_ms)
{
    if (p->json) {
        fprintf(p->out, "%s\n", e->json);
        fflush(p->out);
        return;
    }
    if (strcmp(e->type, "step") == 0) {
        show_step(p, e, now_ms);
        return;
    }
    if (strcmp(e->type, "checkpoint") == 0)
        return;
    progress_end(p);
    if (strcmp(e->type, "eval") == 0)
        show_eval(p, e);
    else if (strcmp(e->type, "status") == 0)
        show_line(p, "status", e->to, e->reason);
    else if (strcmp(e->type, "warning") == 0)
        show_line(p, "warning", e->message, e->code);
    else if (strcmp(e->type, "artifact") == 0)
        show_line(p, "artifact", e->name, NULL);
    else if (strcmp(e->type, "end") == 0)
        show_line(p, "end", e->to, e->reason);
    fflush(p->out);
}
