/* What a step must cost on this machine whatever the program does: its operations at the measured
 * GEMM peak, its bytes at the measured bandwidth, its noise at the measured rate. */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include "psg/backend.h"
#include "psg/program.h"

/* Rates of one core, measured now. */
struct machine {
    double gemm_gflops, gb_per_s, noise_ns; /* noise: of one value */
};
int machine_measure(const struct psg_backend *be, struct machine *m);

/* Of one step of `batch` samples, or of its sum alone; multiply-adds count 2. */
struct work_count {
    double flops; /* products of forward, of both gradients, norm and weighted sum */
    double bytes; /* records read; sum and parameters read and written */
    double noise; /* values */
};
void work_of(const struct psg_program *p, int64_t batch, bool is_private, bool with_update,
             struct work_count *w);
double floor_ms(const struct work_count *w, const struct machine *m, int threads);

#endif
