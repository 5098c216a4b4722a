#include "cli/sft_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/pool.h"
#include "base/rng.h"
#include "cli/memory.h"
#include "cli/sft_data.h"
#include "cli/usage.h"
#include "engine/checkpoint.h"
#include "engine/device.h"
#include "engine/kernels.h"
#include "learn/learner.h"
#include "proto/digest.h"
#include "replay/lane_group.h"

#define LOG_MODULE "sft"
#include "base/log.h"

#define ROWS_DEFAULT 512u
#define LOG_EVERY_US 5000000

/* What a checkpoint is of. */
struct identity {
    struct digest model, data, settings;
};

struct sft {
    const struct sft_settings *s;
    const struct sft_manner *m;
    const char *out;
    char *checkpoint; /* owned: its path */
    struct tokenizer *tokenizer;
    struct chat *chat; /* NULL: the model has no template, and why: */
    struct err no_chat;
    struct sft_data train, eval;
    size_t *order; /* owned: sequences to train on, first as they come in the file */
    size_t n_train;
    size_t *held; /* owned: those of `train` that are held out */
    size_t n_held;
    int64_t epoch; /* that `order` is of; -1: none */
    uint64_t n_steps;
    struct identity identity; /* of everything that decides the result */
    struct learn_settings settings;
    struct learner_options options;
    struct device *device;    /* owned; NULL: the CPU */
    struct lane_group *group; /* NULL: one process */
    struct learn_crew crew;   /* before there is a group: how many it will be */
    struct learner *learner;
    struct learn_demo *demo; /* owned, room for a step or an evaluation */
    float eval_loss;         /* NAN: none yet */
};

/* ---- what is trained on ---------------------------------------------------------------------- */

static void shuffle(size_t *order, size_t n, uint64_t seed, uint64_t stream)
{
    struct rng r = rng_of(seed, stream);

    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)rng_below(&r, i), kept = order[i - 1];

        order[i - 1] = order[j];
        order[j] = kept;
    }
}

static enum sft_long too_long_of(const char *word)
{
    return !strcmp(word, "cut")    ? SFT_LONG_CUT
           : !strcmp(word, "drop") ? SFT_LONG_DROP
                                   : SFT_LONG_REFUSE;
}

/* Reads the files and holds out what is not to be trained on. */
static enum status read_data(struct sft *f, const struct model_config *c, struct err *e)
{
    size_t max = f->s->max_length && f->s->max_length < c->max_len ? (size_t)f->s->max_length
                                                                   : c->max_len;
    const struct sft_reading how = {.tokenizer = f->tokenizer,
                                    .chat = f->chat,
                                    .no_chat = f->no_chat.text,
                                    .max_tokens = max,
                                    .reads_special = f->m->special,
                                    .too_long = too_long_of(f->s->too_long)};
    enum status st = sft_data_read(&f->train, f->m->data, &how, e);

    if (!st && f->m->eval[0])
        st = sft_data_read(&f->eval, f->m->eval, &how, e);
    if (st)
        return st;
    f->held = xcalloc(f->train.n + 1, sizeof(*f->held));
    f->order = xcalloc(f->train.n + 1, sizeof(*f->order));
    for (size_t i = 0; i < f->train.n; i++)
        f->held[i] = i;
    shuffle(f->held, f->train.n, (uint64_t)f->s->seed, 0);
    f->n_held = (size_t)(f->s->eval_fraction * (double)f->train.n);
    f->n_train = f->train.n - f->n_held;
    memcpy(f->order, f->held + f->n_held, f->n_train * sizeof(*f->order));
    if (f->s->eval_fraction > 0 && f->n_held == 0)
        return err_set(e, ERR_INVALID,
                       "--eval-fraction %g of %zu sequences holds out not one of them",
                       f->s->eval_fraction, f->train.n);
    if (f->n_train == 0 && f->n_held)
        return err_set(
            e, ERR_INVALID,
            "--eval-fraction %g holds out all %zu sequences and leaves none to train on",
            f->s->eval_fraction, f->n_held);
    if (f->n_train == 0)
        return err_set(e, ERR_INVALID, "'%s' has no sequence to train on", f->m->data);
    if (f->train.n_spelt + f->eval.n_spelt)
        LOG_WARN(
            "special tokens are spelt in texts=%zu and taken for text: --special reads them",
            f->train.n_spelt + f->eval.n_spelt);
    LOG_INFO("data sequences=%zu tokens=%zu longest=%zu held=%zu cut=%zu dropped=%zu",
             f->train.n, f->train.n_tokens, f->train.longest, f->n_held + f->eval.n,
             f->train.n_cut, f->train.n_dropped);
    return OK;
}

static uint64_t steps_of_epoch(const struct sft *f)
{
    return (f->n_train + (uint64_t)f->s->batch - 1) / (uint64_t)f->s->batch;
}

/* The sequences of step `step`, into f->demo. Returns how many. */
static size_t take_batch(struct sft *f, uint64_t step)
{
    uint64_t epoch = step / steps_of_epoch(f);
    size_t first = (size_t)(step % steps_of_epoch(f)) * (size_t)f->s->batch;
    size_t n =
        f->n_train - first < (size_t)f->s->batch ? f->n_train - first : (size_t)f->s->batch;

    if ((int64_t)epoch != f->epoch) {
        /* From the first order on, so that an epoch's order needs no other's. */
        memcpy(f->order, f->held + f->n_held, f->n_train * sizeof(*f->order));
        shuffle(f->order, f->n_train, (uint64_t)f->s->seed, 1 + epoch);
        f->epoch = (int64_t)epoch;
    }
    for (size_t i = 0; i < n; i++)
        f->demo[i] = sft_data_get(&f->train, f->order[first + i]);
    return n;
}

/* ---- beginning ------------------------------------------------------------------------------- */

static enum status read_settings(struct sft *f, struct err *e)
{
    const struct sft_settings *s = f->s;

    f->n_steps = s->steps >= 0 ? (uint64_t)s->steps : (uint64_t)s->epochs * steps_of_epoch(f);
    f->settings = (struct learn_settings){
        .temperature = 1.0f,
        .optimizer = {.lr = s->lr,
                      .lr_end = s->lr_end,
                      .beta1 = (float)s->beta1,
                      .beta2 = (float)s->beta2,
                      .eps = 1e-8f,
                      .weight_decay = (float)s->weight_decay,
                      .clip_norm = (float)s->clip_norm,
                      .schedule = !strcmp(s->schedule, "constant") ? LEARN_CONSTANT
                                  : !strcmp(s->schedule, "linear") ? LEARN_LINEAR
                                                                   : LEARN_COSINE,
                      .warm_steps = (uint64_t)s->warm_steps,
                      .total_steps = f->n_steps},
        .grad_lanes = (uint32_t)s->grad_lanes,
    };
    if (f->n_steps == 0)
        return err_set(e, ERR_INVALID, "not one step to take");
    return OK;
}

/* A checkpoint is of one model, one set of data and one way to train. */
static void identify(struct sft *f, const struct weights *w)
{
    struct digest weights, settings;
    struct digest_state d;
    struct buf config;

    buf_init(&config, 1u << 20);
    model_config_encode(&config, &w->config);
    weights_digest(weights.b, w);
    digest_begin(&d, "muster/sft-model");
    digest_add(&d, buf_bytes(&config));
    digest_add(&d, BYTES_OF(weights.b));
    digest_end(&d, &f->identity.model);
    buf_clear(&config);
    sft_data_digest(&f->identity.data, &f->train);
    learn_settings_digest(&settings, &f->settings);
    digest_begin(&d, "muster/sft");
    digest_add(&d, BYTES_OF(settings.b));
    digest_add_u64(&d, f->n_train);
    digest_add_u64(&d, (uint64_t)f->s->batch);
    digest_add_u64(&d, (uint64_t)f->s->seed);
    digest_add_u64(&d, f->n_steps);
    digest_add(&d, bytes_str(f->s->numerics));
    digest_end(&d, &f->identity.settings);
}

/* Whether a checkpoint with `meta` is of this training; if not, in what it differs. */
static enum status check_identity(const struct sft *f, struct bytes meta, struct err *e)
{
    const struct identity *want = &f->identity;
    struct identity got;
    const char *what = NULL;

    if (meta.len != sizeof(got))
        return err_set(e, ERR_INVALID, "'%s' is no checkpoint of this program", f->checkpoint);
    memcpy(&got, meta.data, sizeof(got));
    if (memcmp(&got.model, &want->model, sizeof(got.model)) != 0)
        what = "another model";
    else if (memcmp(&got.data, &want->data, sizeof(got.data)) != 0)
        what = "other data (what --data, --max-length and --template make of it)";
    else if (memcmp(&got.settings, &want->settings, sizeof(got.settings)) != 0)
        what = "other settings (--epochs or --steps, --batch, --lr, --seed, ...)";
    return what ? err_set(e, ERR_INVALID,
                          "'%s' is of %s: begin anew with another --out, or go on as it began",
                          f->checkpoint, what)
                : OK;
}

/* Weights and moments where the checkpoint left them. */
static enum status resume(struct sft *f, struct weights **w, struct adamw **opt, struct err *e)
{
    struct buf meta;
    enum status st;

    weights_free(w);
    buf_init(&meta, CHECKPOINT_META_MAX);
    st = checkpoint_load(w, opt, &meta, f->checkpoint, e);
    if (!st)
        st = check_identity(f, buf_bytes(&meta), e);
    if (!st)
        LOG_INFO("resumed step=%" PRIu64 "/%" PRIu64, (*opt)->step, f->n_steps);
    buf_clear(&meta);
    return st;
}

static enum status check_out(const struct sft *f, struct err *e)
{
    char *config = file_join(f->out, "config.json");
    bool is_model = file_exists(config), is_begun = file_exists(f->checkpoint);
    enum status st = OK;

    if (is_begun && !f->m->resume)
        st = err_set(e, ERR_EXISTS,
                     "'%s' holds a training that was begun: --resume goes on with it", f->out);
    else if (is_model && !is_begun)
        st = err_set(e, ERR_EXISTS, "'%s' holds a model already", f->out);
    free(config);
    return st;
}

static struct lane_group_options group_options(const struct sft *f,
                                               const struct model_config *c)
{
    return (struct lane_group_options){.n_processes = (uint32_t)f->m->processes,
                                       .n_lanes = f->settings.grad_lanes,
                                       .config = *c,
                                       .kernels = f->options.kernels,
                                       .threads = pool_threads(f->options.pool),
                                       .max_rows = f->options.max_rows,
                                       .recompute = f->options.recompute};
}

/* How much is computed at once, and whether that fits: before memory of the model's size is
 * taken. */
static enum status plan_memory(struct sft *f, const struct model_config *c, struct err *e)
{
    size_t longest = f->train.longest > f->eval.longest ? f->train.longest : f->eval.longest;
    struct lane_group_options go;
    uint64_t bytes, each;
    char what[64];
    enum status st;

    f->options.max_rows = f->m->rows ? (size_t)f->m->rows : ROWS_DEFAULT;
    if (!f->m->rows && f->options.max_rows > longest * (size_t)f->s->batch)
        f->options.max_rows = longest * (size_t)f->s->batch;
    if (f->options.max_rows < longest)
        f->options.max_rows = longest;
    f->options.recompute = f->m->recompute;
    f->crew.n_processes = (uint32_t)f->m->processes;
    f->options.crew = &f->crew;
    go = group_options(f, c);
    st = lane_group_check(go.n_processes, go.n_lanes, e);
    if (st)
        return st;
    bytes = learner_bytes(c, &f->settings, &f->options);
    if (go.n_processes == 1)
        return memory_check(f->device, bytes, f->m->max_memory, "training", e);
    each = lane_group_bytes(&go);
    LOG_INFO("plan processes=%" PRIu32 " mib=%" PRIu64 " each_other_mib=%" PRIu64,
             go.n_processes, bytes >> 20, each >> 20);
    if (each > (UINT64_MAX - bytes) / LANES_MAX || bytes == UINT64_MAX)
        bytes = each = UINT64_MAX / (2 * LANES_MAX);
    snprintf(what, sizeof(what), "training in %" PRIu32 " processes", go.n_processes);
    return memory_check(f->device, bytes + (go.n_processes - 1) * each, f->m->max_memory, what,
                        e);
}

/* The learner, from `w`, which is its afterwards. */
static enum status make_learner(struct sft *f, struct weights **w, struct adamw **opt,
                                struct err *e)
{
    size_t room = f->n_held + f->eval.n > (size_t)f->s->batch ? f->n_held + f->eval.n
                                                              : (size_t)f->s->batch;
    enum status st = alloc_array(&f->demo, room, sizeof(*f->demo), "a batch", e);
    const struct lane_group_options go = group_options(f, &(*w)->config);

    f->options.crew = NULL;
    if (!st && go.n_processes > 1)
        st = lane_group_open(&f->group, &go, e);
    if (!st && f->group)
        f->options.crew = lane_group_crew(f->group);
    return st ? st : learner_new(&f->learner, w, opt, &f->settings, &f->options, e);
}

/* What turns data into tokens for a model `c`. */
static enum status open_tokenizer(struct sft *f, const char *model,
                                  const struct model_config *c, struct err *e)
{
    enum status st = tokenizer_load(&f->tokenizer, model, e);

    if (st)
        return st;
    if (tokenizer_eos(f->tokenizer) < 0 && c->n_stops)
        tokenizer_set_eos(f->tokenizer, c->stops[0]);
    if (tokenizer_vocab(f->tokenizer) > c->vocab)
        return err_set(e, ERR_INVALID,
                       "'%s': the tokenizer has %" PRIu32 " tokens, the model %" PRIu32, model,
                       tokenizer_vocab(f->tokenizer), c->vocab);
    if (f->s->template[0])
        return chat_open_named(&f->chat, f->s->template, f->tokenizer, e);
    if (chat_open(&f->chat, model, f->tokenizer, &f->no_chat))
        f->chat = NULL; /* matters only if there are messages, and is told then */
    return OK;
}

static enum status begin(struct sft *f, const char *model, struct err *e)
{
    struct weights *w = NULL;
    struct adamw *opt = NULL;
    struct model_config c;
    enum status st = model_config_load(&c, model, e);

    if (!st)
        st = open_tokenizer(f, model, &c, e);
    if (!st)
        st = read_data(f, &c, e);
    if (!st)
        st = read_settings(f, e);
    if (!st)
        st = plan_memory(f, &c, e);
    if (!st)
        st = weights_load(&w, model, e);
    if (st)
        goto out;
    identify(f, w);
    if (file_exists(f->checkpoint))
        st = resume(f, &w, &opt, e);
    if (!st)
        st = make_learner(f, &w, &opt, e);
out:
    weights_free(&w);
    adamw_free(&opt);
    return st;
}

/* ---- training -------------------------------------------------------------------------------- */

static enum status evaluate(struct sft *f, struct err *e)
{
    struct learn_report r;
    size_t n = 0;
    enum status st;

    for (size_t i = 0; i < f->n_held; i++)
        f->demo[n++] = sft_data_get(&f->train, f->held[i]);
    for (size_t i = 0; i < f->eval.n; i++)
        f->demo[n++] = sft_data_get(&f->eval, i);
    if (n == 0)
        return OK;
    st = learner_evaluate(f->learner, f->demo, n, &r, e);
    if (st)
        return st;
    f->eval_loss = r.loss;
    LOG_INFO("eval step=%" PRIu64 " loss=%.4f tokens=%" PRIu64, f->learner->opt->step,
             (double)r.loss, r.n_tokens);
    return OK;
}

/* Where the time went since the last line. */
struct pace {
    int64_t start, said; /* microseconds */
    uint64_t first_step, tokens;
};

static void say(const struct sft *f, struct pace *p, const struct learn_report *r)
{
    uint64_t step = f->learner->opt->step;
    int64_t now = clock_mono_us();
    double spent = (double)(now - p->start) * 1e-6;

    if (now - p->said < LOG_EVERY_US && step != f->n_steps && step != p->first_step + 1)
        return;
    p->said = now;
    LOG_INFO("step n=%" PRIu64 "/%" PRIu64
             " loss=%.4f lr=%.3g grad_norm=%.3g tok_s=%.0f eta_s=%.0f",
             step, f->n_steps, (double)r->loss, (double)r->lr, (double)r->grad_norm,
             (double)p->tokens / spent,
             spent / (double)(step - p->first_step) * (double)(f->n_steps - step));
}

static bool is_due(uint64_t step, int64_t every)
{
    return every > 0 && step % (uint64_t)every == 0;
}

static enum status save_checkpoint(const struct sft *f, struct err *e)
{
    struct learner *l = f->learner;
    enum status st = learner_fetch(l, e);

    return st ? st
              : checkpoint_save(f->checkpoint, l->masters, l->opt, BYTES_OF(f->identity), e);
}

static enum status train(struct sft *f, struct err *e)
{
    struct learner *l = f->learner;
    struct pace p = {.start = clock_mono_us(), .first_step = l->opt->step};
    enum status st = l->opt->step == 0 ? evaluate(f, e) : OK;

    while (!st && l->opt->step < f->n_steps) {
        struct learn_report r;
        size_t n = take_batch(f, l->opt->step);

        l->settings.warmup_lr = (double)learn_rate(&f->settings, l->opt->step);
        for (size_t i = 0; i < n; i++)
            p.tokens += f->demo[i].n;
        st = learner_imitate(l, f->demo, n, &r, e);
        if (st)
            break;
        say(f, &p, &r);
        if (is_due(l->opt->step, f->m->eval_every) && l->opt->step < f->n_steps)
            st = evaluate(f, e);
        if (!st && is_due(l->opt->step, f->m->checkpoint_every) && l->opt->step < f->n_steps)
            st = save_checkpoint(f, e);
    }
    return st ? st : evaluate(f, e);
}

/* The model in place of the checkpoint. */
static enum status finish(struct sft *f, struct err *e)
{
    const struct weights *w = learner_published(f->learner);
    enum status st = learner_fetch(f->learner, e);

    if (!st)
        st = tokenizer_save(f->tokenizer, f->out, e);
    if (!st)
        st = weights_save(w, f->out, w->config.dtype, e);
    if (!st && file_exists(f->checkpoint) && unlink(f->checkpoint))
        st = err_set(e, ERR_IO, "cannot remove '%s'", f->checkpoint);
    return st;
}

static void tell(const struct sft *f)
{
    char hex[DIGEST_HEX_BYTES];
    struct digest root;

    if (!f->m->json) {
        printf("%s\n", f->out);
        return;
    }
    weights_digest(root.b, f->learner->masters);
    digest_to_hex(hex, &root);
    printf("{\"steps\": %" PRIu64 ", \"sequences\": %zu, \"eval_loss\": ", f->n_steps,
           f->n_train);
    if (isnan(f->eval_loss))
        printf("null");
    else
        printf("%.6g", (double)f->eval_loss);
    printf(", \"weights\": \"%s\"}\n", hex);
}

static void clear(struct sft *f)
{
    learner_free(&f->learner);
    lane_group_close(&f->group);
    sft_data_clear(&f->train);
    sft_data_clear(&f->eval);
    chat_close(&f->chat);
    tokenizer_free(&f->tokenizer);
    free(f->order);
    free(f->held);
    free(f->demo);
    free(f->checkpoint);
    pool_free(&f->options.pool);
    device_close(&f->device);
}

enum status sft_run(const struct sft_settings *s, const struct sft_manner *m, const char *model,
                    const char *out, struct err *e)
{
    struct sft f = {.s = s,
                    .m = m,
                    .out = out,
                    .checkpoint = file_join(out, "sft.checkpoint"),
                    .epoch = -1,
                    .eval_loss = NAN};
    enum numerics class;
    enum status st = numerics_parse(&class, s->numerics, e);

    if (!st)
        st = device_choose(&f.device, &f.options.kernels, m->device, class, m->kernels, e);
    f.options.is_lazy = f.device != NULL;

    if (!st)
        st = check_out(&f, e);
    if (!st)
        st = file_mkdirs(out, 0755, e);
    usage_pool(&f.options.pool, m->threads);
    if (!st)
        st = begin(&f, model, e);
    if (!st)
        st = train(&f, e);
    if (!st)
        st = finish(&f, e);
    if (!st)
        tell(&f);
    clear(&f);
    return st;
}
