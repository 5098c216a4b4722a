/*
 * learn/learner on a device: the CPU's bits over the life of a course, in which the optimizer begins anew
 * after imitation. Without a device, the emulated one among them, the program exits with 77.
 */
#include "learn/learner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/device.h"
#include "support/test.h"

#include "unit/engine/tiny_model.h"

#define DEMOS  2u
#define LENGTH 7u

static struct learner *learner_of(const struct kernels *k, bool is_lazy, enum dtype published)
{
    const struct learn_settings settings = {
        .temperature = 1.0f,
        .optimizer = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip_norm = 1.0f},
        .warmup_lr = 1e-2,
        .grad_lanes = 1,
    };
    const struct learner_options o = {
        .kernels = k, .max_rows = DEMOS * LENGTH, .is_lazy = is_lazy};
    struct model_config c = tiny_config(MODEL_ARCH_QWEN2);
    struct weights *w;
    struct learner *l;
    struct err e;

    c.dtype = published;
    w = tiny_weights(&c, 5);
    assert_ok(learner_new(&l, &w, NULL, &settings, &o, &e), &e);
    return l;
}

static void imitate(struct learner *l, size_t steps)
{
    struct learn_demo demo[DEMOS];
    int32_t tokens[DEMOS][LENGTH];
    struct learn_report report;
    struct err e;

    for (size_t i = 0; i < DEMOS; i++) {
        tiny_tokens(tokens[i], LENGTH, &l->masters->config, 20 + i);
        demo[i] = (struct learn_demo){.tokens = tokens[i], .n_prompt = 1, .n = LENGTH};
    }
    for (size_t i = 0; i < steps; i++)
        assert_ok(learner_imitate(l, demo, DEMOS, &report, &e), &e);
}

static void assert_equal(const struct learner *a, const struct learner *b)
{
    const size_t bytes = a->masters->n_data * sizeof(float);

    assert_int_equal(a->opt->step, b->opt->step);
    assert_memory_equal(a->masters->data, b->masters->data, bytes);
    assert_memory_equal(learner_published(a)->data, learner_published(b)->data, bytes);
    assert_memory_equal(a->opt->m->data, b->opt->m->data, bytes);
    assert_memory_equal(a->opt->v->data, b->opt->v->data, bytes);
}

static void walk(struct learner *l)
{
    struct err e;

    imitate(l, 2);
    assert_ok(learner_restart(l, &e), &e);
    assert_int_equal(l->opt->step, 0);
    imitate(l, 2);
    assert_ok(learner_fetch(l, &e), &e);
}

static void an_optimizer_that_begins_anew_does_so_on_the_device(void **state)
{
    const struct kernels *there = *state;

    for (int way = 0; way < 2; way++) {
        const enum dtype published = way ? DTYPE_BF16 : DTYPE_F32;
        struct learner *here = learner_of(kernels_best(), false, published);
        struct learner *l = learner_of(there, way == 0, published);

        walk(here);
        walk(l);

        assert_equal(l, here);
        learner_free(&l);
        learner_free(&here);
    }
}

int main(void)
{
    struct device *d;
    const struct kernels *k;
    struct err e;
    int status;

    if (device_count() == 0) {
        printf("skipped: no GPU\n");
        return 77;
    }
    if (device_open(&d, "cuda", &e) || device_kernels(&k, d, NUMERICS_F32_1, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(an_optimizer_that_begins_anew_does_so_on_the_device,
                                  (void *)(uintptr_t)k),
    };
    status = cmocka_run_group_tests_name("learn/learner on a device", tests, NULL, NULL);
    device_close(&d);
    return status;
}
