/* GET /devices: what jobs may run on. */
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "http/reply.h"
#include "http/route.h"
#include "http/server.h"
#include "job/jobs.h"
#include "proto/server.h"

/* Model of the processor from /proc/cpuinfo; "CPU" where the kernel does not tell. */
static void cpu_name(char *buf, size_t size)
{
    char line[256];
    FILE *in = fopen("/proc/cpuinfo", "re");
    snprintf(buf, size, "CPU");
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(buf, size, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (in != NULL)
        fclose(in);
}

/* GPUs after the CPU; none: one entry that says why. Returns how many entries there are. */
static size_t gpu_views(const struct psg_devices *gpus, struct device_view *view,
                        char id[][16])
{
    int n = gpus->n > 0 ? gpus->n : 1;
    for (int i = 0; i < n; i++) {
        const struct psg_device *gpu = gpus->n > 0 ? &gpus->at[i] : NULL;
        snprintf(id[i], sizeof id[i], "cuda:%d", i);
        view[i] = (struct device_view){ .id = gpu ? id[i] : "cuda",
                                        .name = gpu ? gpu->name : "NVIDIA GPU",
                                        .cores = -1,
                                        .memory_bytes = gpu ? gpu->memory : -1,
                                        .detail = gpu ? "jobs train on the CPU only"
                                                      : gpus->why };
    }
    return (size_t)n;
}

enum MHD_Result route_devices(struct request *req)
{
    char name[128];
    struct sysinfo info;
    struct jobs_counts counts;
    cpu_name(name, sizeof name);
    jobs_count(req->services->jobs, &counts);
    int64_t memory = sysinfo(&info) == 0 ? (int64_t)info.totalram * info.mem_unit : 0;
    struct device_view view[1 + PSG_DEVICES_MAX];
    char id[PSG_DEVICES_MAX][16];
    view[0] = (struct device_view){ .id = "cpu",
                                    .name = name,
                                    .cores = req->services->cores,
                                    .memory_bytes = memory,
                                    .available = true,
                                    .jobs = (int64_t)counts.by_status[JOB_STATUS_RUNNING] };
    struct device_list list = { .n_data = 1, .data = view };
    if (req->services->gpus)
        list.n_data += gpu_views(req->services->gpus, view + 1, id);
    size_t n = 0;
    char *text = device_list_encode(&list, &n);
    return reply_text(req, 200, "application/json", text, n, NULL);
}
