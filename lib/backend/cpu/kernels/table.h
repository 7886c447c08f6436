/* One version of the cpu backend: includes every kernel and fills CPU_VERSION. What has no
 * faster version here is the reference kernel itself. */
#ifndef CPU_KERNELS_TABLE_H
#define CPU_KERNELS_TABLE_H

#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels/cell.h"
#include "backend/cpu/kernels/conv.h"
#include "backend/cpu/kernels/elementwise.h"
#include "backend/cpu/kernels/gemm.h"
#include "backend/cpu/kernels/grads.h"
#include "backend/cpu/kernels/pool.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/tables.h"

const struct psg_backend CPU_VERSION = {
    .name = "cpu",
    .device_memory = false,
    .gemm = cpu_gemm,
    .gemm_batched = cpu_gemm_batched,
    .fill = cpu_fill,
    .unary = cpu_unary,
    .binary = cpu_binary,
    .select = cpu_select,
    .act = cpu_act,
    .act_bwd = cpu_act_bwd,
    .narrow = cpu_narrow,
    .widen = cpu_widen,
    .axpy = cpu_axpy,
    .copy = cpu_copy,
    .reduce = cpu_reduce,
    .argmax = cpu_argmax,
    .gather = cpu_gather,
    .scatter_add = cpu_scatter_add,
    .merge_ids = cpu_merge_ids,
    .convert = ref_convert,
    .unfold = cpu_unfold,
    .fold = cpu_fold,
    .conv_scratch = cpu_conv_scratch,
    .conv = cpu_conv,
    .conv_bwd_data = cpu_conv_bwd_data,
    .conv_bwd_weight = cpu_conv_bwd_weight,
    .max_pool = cpu_max_pool,
    .max_pool_bwd = cpu_max_pool_bwd,
    .avg_pool = cpu_avg_pool,
    .avg_pool_bwd = cpu_avg_pool_bwd,
    .normalize = cpu_normalize,
    .normalize_bwd = cpu_normalize_bwd,
    .softmax = cpu_softmax,
    .softmax_bwd = cpu_softmax_bwd,
    .add_bias = cpu_add_bias,
    .sum_rows = cpu_sum_rows,
    .cell = cpu_cell,
    .cell_bwd = cpu_cell_bwd,
    .add_sqnorm = cpu_add_sqnorm,
    .add_weighted = cpu_add_weighted,
};

#endif
