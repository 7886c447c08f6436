/* Steps of recurrent layers: one loop over the units of a sample, vectorised by the
 * compiler. */
#ifndef CPU_KERNELS_CELL_H
#define CPU_KERNELS_CELL_H

#include "backend/cpu/kernels/math.h"

static bool cell_happens(const struct psg_cell *c, int64_t i)
{
    return !c->mask || c->mask[i * c->ld_mask] != 0;
}

static void cell_lstm_row(int64_t u, psg_real *restrict a, const psg_real *restrict c_prev,
                          psg_real *restrict c, psg_real *restrict h)
{
    for (int64_t j = 0; j < u; j++) {
        psg_real in = m_sigmoid(a[j]), forget = m_sigmoid(a[u + j]);
        psg_real cell = m_tanh(a[2 * u + j]), out = m_sigmoid(a[3 * u + j]);
        psg_real next = forget * c_prev[j] + in * cell;
        a[j] = in;
        a[u + j] = forget;
        a[2 * u + j] = cell;
        a[3 * u + j] = out;
        c[j] = next;
        h[j] = out * m_tanh(next);
    }
}

static void cell_lstm_row_bwd(int64_t u, psg_real *restrict a,
                              const psg_real *restrict c_prev, const psg_real *restrict c,
                              psg_real *restrict dh, psg_real *restrict dc)
{
    for (int64_t j = 0; j < u; j++) {
        psg_real in = a[j], forget = a[u + j], cell = a[2 * u + j], out = a[3 * u + j];
        psg_real tc = m_tanh(c[j]), g = dh[j], d = dc[j] + g * out * (1 - tc * tc);
        a[j] = d * cell * in * (1 - in);
        a[u + j] = d * c_prev[j] * forget * (1 - forget);
        a[2 * u + j] = d * in * (1 - cell * cell);
        a[3 * u + j] = g * tc * out * (1 - out);
        dc[j] = d * forget;
        dh[j] = 0;
    }
}

/* h holds h_prev on entry */
static void cell_gru_row(int64_t u, psg_real *restrict a, const psg_real *restrict b,
                         psg_real *restrict h)
{
    for (int64_t j = 0; j < u; j++) {
        psg_real r = m_sigmoid(a[j] + b[j]), z = m_sigmoid(a[u + j] + b[u + j]);
        psg_real n = m_tanh(a[2 * u + j] + r * b[2 * u + j]);
        a[j] = r;
        a[u + j] = z;
        a[2 * u + j] = n;
        h[j] = (1 - z) * n + z * h[j];
    }
}

static void cell_gru_row_bwd(int64_t u, psg_real *restrict a, psg_real *restrict b,
                             const psg_real *restrict h_prev, psg_real *restrict dh)
{
    for (int64_t j = 0; j < u; j++) {
        psg_real r = a[j], z = a[u + j], n = a[2 * u + j], g = dh[j];
        psg_real dn = g * (1 - z) * (1 - n * n), dr = dn * b[2 * u + j] * r * (1 - r);
        psg_real dz = g * ((h_prev ? h_prev[j] : 0) - n) * z * (1 - z);
        a[j] = b[j] = dr;
        a[u + j] = b[u + j] = dz;
        a[2 * u + j] = dn;
        b[2 * u + j] = dn * r;
        dh[j] = g * z;
    }
}

static void cell_rnn_row(int64_t u, bool relu, psg_real *restrict a, psg_real *restrict h)
{
    if (relu)
        for (int64_t j = 0; j < u; j++)
            h[j] = a[j] = a[j] < 0 ? 0 : a[j];
    else
        for (int64_t j = 0; j < u; j++)
            h[j] = a[j] = m_tanh(a[j]);
}

static void cell_rnn_row_bwd(int64_t u, bool relu, psg_real *restrict a,
                             psg_real *restrict dh)
{
    for (int64_t j = 0; j < u; j++) {
        psg_real h = a[j];
        a[j] = relu ? (h > 0 ? dh[j] : 0) : dh[j] * (1 - h * h);
        dh[j] = 0;
    }
}

static void cell_pass_on(int64_t u, const psg_real *from, psg_real *to)
{
    for (int64_t j = 0; j < u; j++)
        to[j] = from ? from[j] : 0;
}

static void cpu_cell(const struct psg_cell *c)
{
    int64_t u = c->hidden;
    bool lstm = c->kind == PSG_CELL_LSTM, gru = c->kind == PSG_CELL_GRU;
    for (int64_t i = 0; i < c->n; i++) {
        psg_real *a = c->gates + i * c->ld_gates, *h = c->h + i * c->ld_h;
        const psg_real *h_prev = c->h_prev ? c->h_prev + i * c->ld_h_prev : NULL;
        if (gru || !cell_happens(c, i))
            cell_pass_on(u, h_prev, h);
        if (!cell_happens(c, i)) {
            if (lstm)
                cell_pass_on(u, c->c_prev + i * c->ld_c, c->c + i * c->ld_c);
            continue;
        }
        if (lstm)
            cell_lstm_row(u, a, c->c_prev + i * c->ld_c, c->c + i * c->ld_c, h);
        else if (gru)
            cell_gru_row(u, a, c->from_h + i * c->ld_gates, h);
        else
            cell_rnn_row(u, c->kind == PSG_CELL_RNN_RELU, a, h);
    }
}

static void cpu_cell_bwd(const struct psg_cell *c)
{
    int64_t u = c->hidden;
    bool lstm = c->kind == PSG_CELL_LSTM, gru = c->kind == PSG_CELL_GRU;
    for (int64_t i = 0; i < c->n; i++) {
        psg_real *a = c->gates + i * c->ld_gates, *dh = c->dh + i * u;
        if (!cell_happens(c, i)) {
            cell_pass_on((lstm ? 4 : gru ? 3 : 1) * u, NULL, a);
            if (gru)
                cell_pass_on(3 * u, NULL, c->from_h + i * c->ld_gates);
            continue;
        }
        for (int64_t j = 0; c->dy && j < u; j++)
            dh[j] += c->dy[i * c->ld_dy + j];
        if (lstm)
            cell_lstm_row_bwd(u, a, c->c_prev + i * c->ld_c, c->c + i * c->ld_c, dh,
                              c->dc + i * u);
        else if (gru)
            cell_gru_row_bwd(u, a, c->from_h + i * c->ld_gates,
                             c->h_prev ? c->h_prev + i * c->ld_h_prev : NULL, dh);
        else
            cell_rnn_row_bwd(u, c->kind == PSG_CELL_RNN_RELU, a, dh);
    }
}

#endif
