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

static int add_layer(struct psg_program *p, const struct psg_registry *registry,
                     const char *line, psg_value *v, struct psg_error *err)
{
    char path[64], op[64];
    psg_value in[8], out[8];
    int at = 0, n_in = 1;
    if (sscanf(line, "%63s %63s %n", path, op, &at) < 2)
        return psg_fail(err, PSG_E_FORMAT, line, "not a layer");
    char *times = strchr(op, '*'); /* "op*3": the same input three times */
    if (times) {
        n_in = atoi(times + 1);
        *times = '\0';
    }
    for (int i = 0; i < n_in && i < 8; i++)
        in[i] = *v;
    _cleanup_(psg_attrs_freep) struct psg_attrs *a = attrs_from_text(line + at);
    if (!a)
        return psg_fail(err, PSG_E_FORMAT, line, "cannot read the attributes");
    const struct psg_op *own = psg_registry_op(registry, op);
    int r = own ? psg_program_add_op(p, own, path, in, n_in, a, NULL, 0, out, NULL, err)
                : psg_program_add(p, op, path, in, n_in, a, NULL, 0, out, NULL, err);
    if (r == 0)
        *v = out[0];
    return r;
}

static int build(const struct model *m, const struct psg_registry *registry,
                 struct psg_program *p, struct psg_error *err)
{
    const char *colon = strchr(m->input, ':');
    struct psg_shape shape = parse_shape(colon ? colon + 1 : m->input), none = { 0 };
    psg_value v, in[2];
    int r = psg_program_input(p, "x", colon ? PSG_I64 : PSG_REAL, &shape, &v, err);
    for (int i = 0; r == 0 && m->layers[i]; i++)
        r = add_layer(p, registry, m->layers[i], &v, err);
    if (r)
        return r;
    in[0] = v;
    bool binary = m->n_classes == 1;
    if (binary)
        none = PSG_SHAPE(1);
    r = psg_program_input(p, "target", binary ? PSG_REAL : PSG_I64, &none, &in[1], err);
    if (r == 0)
        r = psg_program_set_output(p, v, err);
    if (r == 0)
        r = psg_program_add(p, binary ? "bce_with_logits" : "cross_entropy", "loss", in, 2, NULL,
                            NULL, 0, &v, NULL, err);
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
