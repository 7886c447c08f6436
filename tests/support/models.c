#include "models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attrs_text.h"
#include "base/cleanup.h"

static const char *const logreg[] = { "fc linear out_features=1", NULL };
static const char *const logreg2[] = { "fc linear out_features=2", NULL };
static const char *const ffnn[] = { "fc1 linear out_features=50", "act relu",
                                    "fc2 linear out_features=2", NULL };
static const char *const mnist_cnn[] = {
    "conv1 conv2d out_channels=16 kernel_size=8 stride=2 padding=3", "relu1 relu",
    "pool1 max_pool2d kernel_size=2 stride=1",
    "conv2 conv2d out_channels=32 kernel_size=4 stride=2", "relu2 relu",
    "pool2 max_pool2d kernel_size=2 stride=1", "flat flatten",
    "fc1 linear out_features=32", "relu3 relu", "fc2 linear out_features=10", NULL
};
static const char *const cifar_cnn[] = {
    "conv1 conv2d out_channels=32 kernel_size=3 padding=1", "relu1 relu",
    "conv2 conv2d out_channels=32 kernel_size=3 padding=1", "relu2 relu",
    "pool1 avg_pool2d kernel_size=2 stride=2",
    "conv3 conv2d out_channels=64 kernel_size=3 padding=1", "relu3 relu",
    "conv4 conv2d out_channels=64 kernel_size=3 padding=1", "relu4 relu",
    "pool2 avg_pool2d kernel_size=2 stride=2",
    "conv5 conv2d out_channels=128 kernel_size=3 padding=1", "relu5 relu",
    "conv6 conv2d out_channels=128 kernel_size=3 padding=1", "relu6 relu",
    "pool3 avg_pool2d kernel_size=2 stride=2",
    "conv7 conv2d out_channels=256 kernel_size=3 padding=1", "relu7 relu",
    "conv8 conv2d out_channels=10 kernel_size=3 padding=1", "mean mean dim=2,3", NULL
};
static const char *const imdb_embedding[] = {
    "emb embedding num_embeddings=10004 embedding_dim=16", "mean mean dim=1,",
    "fc linear out_features=2", NULL
};
static const char *const imdb_lstm[] = {
    "emb embedding num_embeddings=10004 embedding_dim=100",
    "lstm lstm input_size=100 hidden_size=100", "mean mean dim=1,",
    "fc linear out_features=2", NULL
};
static const char *const wide[] = { "fc1 linear out_features=4096", "act relu",
                                    "fc2 linear out_features=10", NULL };
static const char *const transformer[] = {
    "emb embedding num_embeddings=1000 embedding_dim=128",
    "layer1 transformer_encoder_layer nhead=4 dim_feedforward=512 dropout=0 "
    "norm_first=true activation=gelu",
    "layer2 transformer_encoder_layer nhead=4 dim_feedforward=512 dropout=0 "
    "norm_first=true activation=gelu",
    "norm layer_norm normalized_shape=128", "mean mean dim=1,", "fc linear out_features=2", NULL
};

/* a residual block of the ResNet: input layer, channels, stride; PROJECT where the shape changes */
#define RES_CONVS(B, FROM, C, S)                                                                \
    B ".c1 conv2d out_channels=" C " kernel_size=3 stride=" S " padding=1 bias=false @" FROM,   \
        B ".g1 group_norm num_groups=4", B ".r1 relu",                                          \
        B ".c2 conv2d out_channels=" C " kernel_size=3 padding=1 bias=false",                   \
        B ".g2 group_norm num_groups=4"
#define RES_BLOCK(B, FROM, C)                                                                   \
    RES_CONVS(B, FROM, C, "1"), B ".add add @" B ".g2," FROM, B " relu"
#define RES_PROJECT(B, FROM, C)                                                                 \
    RES_CONVS(B, FROM, C, "2"),                                                                 \
        B ".p conv2d out_channels=" C " kernel_size=1 stride=2 bias=false @" FROM,              \
        B ".add add @" B ".g2," B ".p", B " relu"
static const char *const resnet_gn[] = { /* ResNet-20 */
    "conv conv2d out_channels=16 kernel_size=3 padding=1 bias=false",
    "norm group_norm num_groups=4", "b0 relu",
    RES_BLOCK("b1", "b0", "16"), RES_BLOCK("b2", "b1", "16"), RES_BLOCK("b3", "b2", "16"),
    RES_PROJECT("b4", "b3", "32"), RES_BLOCK("b5", "b4", "32"), RES_BLOCK("b6", "b5", "32"),
    RES_PROJECT("b7", "b6", "64"), RES_BLOCK("b8", "b7", "64"), RES_BLOCK("b9", "b8", "64"),
    "mean mean dim=2,3", "fc linear out_features=10", NULL
};

/* one layer each, of the shapes of Opacus' own benchmark; the loss is the sum of the output */
static const char *const layer_linear[] = { "layer linear out_features=512", NULL };
static const char *const layer_conv[] = { "layer conv2d out_channels=64 kernel_size=8", NULL };
static const char *const layer_layernorm[] = { "layer layer_norm normalized_shape=64", NULL };
static const char *const layer_groupnorm[] = { "layer group_norm num_groups=16", NULL };
static const char *const layer_instancenorm[] = { "layer instance_norm1d affine=true", NULL };
static const char *const layer_embedding[] = {
    "layer embedding num_embeddings=20000 embedding_dim=100", NULL
};
static const char *const layer_mha[] = { "layer multihead_attention*3 num_heads=4", NULL };
static const char *const layer_rnn[] = { "layer rnn_tanh hidden_size=100", NULL };
static const char *const layer_gru[] = { "layer gru hidden_size=100", NULL };
static const char *const layer_lstm[] = { "layer lstm hidden_size=100", NULL };

static const struct model models[] = {
    { "logreg", 105, 1, "104", logreg },
    { "logreg2", 210, 2, "104", logreg2 },
    { "ffnn", 5352, 2, "104", ffnn },
    { "mnist_cnn", 26010, 10, "1x28x28", mnist_cnn },
    { "cifar_cnn", 605226, 10, "3x32x32", cifar_cnn },
    { "imdb_embedding", 160098, 2, "i64<10004:256", imdb_embedding },
    { "imdb_lstm", 1081402, 2, "i64<10004:256", imdb_lstm },
    { "wide", 16822282, 10, "4096", wide },
    { "transformer", 525058, 2, "i64<1000:64", transformer },
    { "resnet_gn", 272282, 10, "3x32x32", resnet_gn },
    { "layer_linear", 262656, 0, "512", layer_linear },
    { "layer_conv", 262208, 0, "64x50x100", layer_conv },
    { "layer_layernorm", 128, 0, "64", layer_layernorm },
    { "layer_groupnorm", 512, 0, "256x64", layer_groupnorm },
    { "layer_instancenorm", 512, 0, "256x64", layer_instancenorm },
    { "layer_embedding", 2000000, 0, "i64<20000:", layer_embedding },
    { "layer_mha", 40400, 0, "128x100", layer_mha },
    { "layer_rnn", 20200, 0, "128x100", layer_rnn },
    { "layer_gru", 60600, 0, "128x100", layer_gru },
    { "layer_lstm", 80800, 0, "128x100", layer_lstm },
};

const struct model *model_at(int i)
{
    return i >= 0 && (size_t)i < sizeof models / sizeof models[0] ? &models[i] : NULL;
}

const struct model *model_find(const char *name)
{
    for (int i = 0; model_at(i); i++)
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    return NULL;
}

static struct psg_shape parse_shape(const char *text)
{
    struct psg_shape shape = { 0 };
    for (char *end; *text; text = *end ? end + 1 : end)
        shape.dim[shape.rank++] = strtoll(text, &end, 10);
    return shape;
}

enum { LAYERS_MAX = 128, IN_MAX = 8, LINE_SIZE = 256 };

/* What the layers before gave, by their paths. */
struct values {
    int n;
    char path[LAYERS_MAX][16];
    psg_value value[LAYERS_MAX];
};

/* "@a,b": the outputs of the layers a and b; their number, or -1. Cuts it off the line. */
static int named_inputs(const struct values *values, char *line, psg_value in[IN_MAX])
{
    char *names = strchr(line, '@'), *save = NULL;
    int n = 0;
    if (!names)
        return 0;
    *names++ = '\0';
    for (char *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        int i = values->n - 1;
        while (i >= 0 && strcmp(values->path[i], name) != 0)
            i--;
        if (i < 0 || n == IN_MAX)
            return -1;
        in[n++] = values->value[i];
    }
    return n;
}

static int add_layer(struct psg_program *p, const struct psg_registry *registry,
                     const char *text, struct values *values, psg_value *v,
                     struct psg_error *err)
{
    char path[64], op[64], line[LINE_SIZE];
    psg_value in[IN_MAX], out[8];
    int at = 0;
    if (snprintf(line, sizeof line, "%s", text) >= LINE_SIZE)
        return psg_fail(err, PSG_E_FORMAT, text, "a long layer");
    int n_in = named_inputs(values, line, in);
    if (n_in < 0 || sscanf(line, "%63s %63s %n", path, op, &at) < 2)
        return psg_fail(err, PSG_E_FORMAT, line, "not a layer");
    char *times = strchr(op, '*'); /* "op*3": the same input three times */
    if (times)
        *times++ = '\0';
    if (n_in == 0)
        for (int i = 0; i < (times ? atoi(times) : 1) && i < IN_MAX; i++)
            in[n_in++] = *v;
    _cleanup_(psg_attrs_freep) struct psg_attrs *a = attrs_from_text(line + at);
    if (!a)
        return psg_fail(err, PSG_E_FORMAT, line, "cannot read the attributes");
    const struct psg_op *own = psg_registry_op(registry, op);
    int r = own ? psg_program_add_op(p, own, path, in, n_in, a, NULL, 0, out, NULL, err)
                : psg_program_add(p, op, path, in, n_in, a, NULL, 0, out, NULL, err);
    if (r == 0)
        *v = out[0];
    if (r == 0 && values->n < LAYERS_MAX) {
        snprintf(values->path[values->n], sizeof values->path[0], "%.15s", path);
        values->value[values->n++] = *v;
    }
    return r;
}

/* Class numbers and cross entropy, one probability, or for a layer alone the sum of its output. */
static int add_loss(const struct model *m, struct psg_program *p, psg_value *v,
                    struct psg_error *err)
{
    psg_value in[2] = { *v };
    struct psg_shape shape = { 0 };
    bool binary = m->n_classes == 1;
    if (m->n_classes == 0)
        return psg_program_add(p, "sum", "loss", in, 1, NULL, NULL, 0, v, NULL, err);
    if (binary)
        shape = PSG_SHAPE(1);
    int r = psg_program_input(p, "target", binary ? PSG_REAL : PSG_I64, &shape, &in[1], err);
    return r ? r
             : psg_program_add(p, binary ? "bce_with_logits" : "cross_entropy", "loss", in, 2,
                               NULL, NULL, 0, v, NULL, err);
}

static int build(const struct model *m, const struct psg_registry *registry,
                 struct psg_program *p, struct psg_error *err)
{
    const char *colon = strchr(m->input, ':');
    struct psg_shape shape = parse_shape(colon ? colon + 1 : m->input);
    struct values values = { 0 };
    psg_value v;
    int r = psg_program_input(p, "x", colon ? PSG_I64 : PSG_REAL, &shape, &v, err);
    for (int i = 0; r == 0 && m->layers[i]; i++)
        r = add_layer(p, registry, m->layers[i], &values, &v, err);
    if (r == 0)
        r = psg_program_set_output(p, v, err);
    if (r == 0)
        r = add_loss(m, p, &v, err);
    if (r == 0)
        r = psg_program_set_loss(p, v, err);
    if (r == 0)
        r = psg_program_check(p, err);
    if (r == 0 && m->n_params > 0 && psg_program_trainable_size(p) != m->n_params)
        r = psg_fail(err, PSG_E_SHAPE, m->name, "%lld parameters instead of %lld",
                     (long long)psg_program_trainable_size(p), (long long)m->n_params);
    return r;
}

int model_build(const struct model *m, struct psg_program **pp, struct psg_error *err)
{
    return model_build_with(m, NULL, pp, err);
}

int model_build_with(const struct model *m, const struct psg_registry *registry,
                     struct psg_program **pp, struct psg_error *err)
{
    _cleanup_(psg_program_freep) struct psg_program *p = psg_program_new();
    if (!p)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    int r = build(m, registry, p, err);
    if (r == 0)
        *pp = steal(&p);
    return r;
}
