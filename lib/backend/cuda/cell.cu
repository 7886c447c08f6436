/* A step of a recurrent layer, forward and backward: one thread for each unit of a sample. */
#include <math.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/sigmoid.h"

DEVICE bool step_happens(const struct psg_cell &c, int64_t i)
{
    return !c.mask || c.mask[i * c.ld_mask] != 0;
}

DEVICE double h_before(const struct psg_cell &c, int64_t i, int64_t j)
{
    return c.h_prev ? (double)c.h_prev[i * c.ld_h_prev + j] : 0;
}

DEVICE double lstm_step(const struct psg_cell &c, int64_t i, int64_t j)
{
    int64_t u = c.hidden;
    psg_real *a = c.gates + i * c.ld_gates + j;
    double in = sigmoid((double)a[0]), forget = sigmoid((double)a[u]);
    double cell = tanh((double)a[2 * u]), out = sigmoid((double)a[3 * u]);
    double next = forget * (double)c.c_prev[i * c.ld_c + j] + in * cell;
    a[0] = (psg_real)in;
    a[u] = (psg_real)forget;
    a[2 * u] = (psg_real)cell;
    a[3 * u] = (psg_real)out;
    c.c[i * c.ld_c + j] = (psg_real)next;
    return out * tanh(next);
}

DEVICE double gru_step(const struct psg_cell &c, int64_t i, int64_t j)
{
    int64_t u = c.hidden;
    psg_real *a = c.gates + i * c.ld_gates + j;
    const psg_real *b = c.from_h + i * c.ld_gates + j;
    double r = sigmoid((double)a[0] + (double)b[0]);
    double z = sigmoid((double)a[u] + (double)b[u]);
    double n = tanh((double)a[2 * u] + r * (double)b[2 * u]);
    a[0] = (psg_real)r;
    a[u] = (psg_real)z;
    a[2 * u] = (psg_real)n;
    return (1 - z) * n + z * h_before(c, i, j);
}

DEVICE double rnn_step(const struct psg_cell &c, int64_t i, int64_t j)
{
    psg_real *a = c.gates + i * c.ld_gates + j;
    double x = (double)a[0], h = c.kind == PSG_CELL_RNN_TANH ? tanh(x) : x < 0 ? 0 : x;
    a[0] = (psg_real)h;
    return h;
}

DEVICE void cell_unit(const struct psg_cell &c, int64_t i, int64_t j)
{
    psg_real *h = c.h + i * c.ld_h + j;
    if (step_happens(c, i)) {
        *h = (psg_real)(c.kind == PSG_CELL_LSTM  ? lstm_step(c, i, j)
                        : c.kind == PSG_CELL_GRU ? gru_step(c, i, j)
                                                 : rnn_step(c, i, j));
        return;
    }
    *h = (psg_real)h_before(c, i, j);
    if (c.kind == PSG_CELL_LSTM)
        c.c[i * c.ld_c + j] = c.c_prev[i * c.ld_c + j];
}

KERNEL cell_kernel(struct psg_cell c)
{
    THREADS EACH_OF_GRID(e, c.n * c.hidden)
        cell_unit(c, e / c.hidden, e % c.hidden);
}

void cuda_cell(const struct psg_cell *c)
{
    LAUNCH_EACH(cell_kernel, c->n * c->hidden, *c);
}

DEVICE void lstm_back(const struct psg_cell &c, int64_t i, int64_t j, double dh)
{
    int64_t u = c.hidden;
    psg_real *a = c.gates + i * c.ld_gates + j, *dc = c.dc + i * u + j;
    double in = (double)a[0], forget = (double)a[u], cell = (double)a[2 * u];
    double out = (double)a[3 * u], tc = tanh((double)c.c[i * c.ld_c + j]);
    double d = (double)*dc + dh * out * (1 - tc * tc);
    a[0] = (psg_real)(d * cell * in * (1 - in));
    a[u] = (psg_real)(d * (double)c.c_prev[i * c.ld_c + j] * forget * (1 - forget));
    a[2 * u] = (psg_real)(d * in * (1 - cell * cell));
    a[3 * u] = (psg_real)(dh * tc * out * (1 - out));
    *dc = (psg_real)(d * forget);
}

/* returns what reaches h_prev directly */
DEVICE double gru_back(const struct psg_cell &c, int64_t i, int64_t j, double dh)
{
    int64_t u = c.hidden;
    psg_real *a = c.gates + i * c.ld_gates + j, *b = c.from_h + i * c.ld_gates + j;
    double r = (double)a[0], z = (double)a[u], n = (double)a[2 * u];
    double dn = dh * (1 - z) * (1 - n * n);
    a[0] = b[0] = (psg_real)(dn * (double)b[2 * u] * r * (1 - r));
    a[u] = b[u] = (psg_real)(dh * (h_before(c, i, j) - n) * z * (1 - z));
    a[2 * u] = (psg_real)dn;
    b[2 * u] = (psg_real)(dn * r);
    return dh * z;
}

DEVICE void rnn_back(const struct psg_cell &c, int64_t i, int64_t j, double dh)
{
    psg_real *a = c.gates + i * c.ld_gates + j;
    double h = (double)*a;
    *a = (psg_real)(c.kind == PSG_CELL_RNN_TANH ? dh * (1 - h * h) : h > 0 ? dh : 0);
}

DEVICE void cell_bwd_unit(const struct psg_cell &c, int n_gates, int64_t i, int64_t j)
{
    if (!step_happens(c, i)) {
        for (int gate = 0; gate < n_gates; gate++) {
            int64_t at = i * c.ld_gates + gate * c.hidden + j;
            c.gates[at] = 0;
            if (c.kind == PSG_CELL_GRU)
                c.from_h[at] = 0;
        }
        return;
    }
    psg_real *at = c.dh + i * c.hidden + j;
    double dh = (double)*at + (c.dy ? (double)c.dy[i * c.ld_dy + j] : 0), past = 0;
    if (c.kind == PSG_CELL_LSTM)
        lstm_back(c, i, j, dh);
    else if (c.kind == PSG_CELL_GRU)
        past = gru_back(c, i, j, dh);
    else
        rnn_back(c, i, j, dh);
    *at = (psg_real)past;
}

KERNEL cell_bwd_kernel(struct psg_cell c, int n_gates)
{
    THREADS EACH_OF_GRID(e, c.n * c.hidden)
        cell_bwd_unit(c, n_gates, e / c.hidden, e % c.hidden);
}

void cuda_cell_bwd(const struct psg_cell *c)
{
    int n_gates = c->kind == PSG_CELL_LSTM ? 4 : c->kind == PSG_CELL_GRU ? 3 : 1;
    LAUNCH_EACH(cell_bwd_kernel, c->n * c->hidden, *c, n_gates);
}
