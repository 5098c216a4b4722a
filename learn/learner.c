#include "learn/learner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/ops.h"
#include "learn/tiles.h"
#include "proto/digest.h"

#define PI 3.14159265358979323846

static void put_f64(struct buf *b, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof(bits));
    buf_put_u64(b, bits);
}

void learn_settings_digest(struct digest *out, const struct learn_settings *s)
{
    struct buf b;

    buf_init(&b, 1024);
    buf_put_f32(&b, s->loss.clip_eps);
    buf_put_f32(&b, s->loss.delta);
    buf_put_f32(&b, s->loss.log_ratio_max);
    buf_put_f32(&b, s->temperature);
    put_f64(&b, s->optimizer.lr);
    put_f64(&b, s->optimizer.lr_end);
    buf_put_f32(&b, s->optimizer.beta1);
    buf_put_f32(&b, s->optimizer.beta2);
    buf_put_f32(&b, s->optimizer.eps);
    buf_put_f32(&b, s->optimizer.weight_decay);
    buf_put_f32(&b, s->optimizer.clip_norm);
    buf_put_u32(&b, (uint32_t)s->optimizer.schedule);
    buf_put_u64(&b, s->optimizer.warm_steps);
    buf_put_u64(&b, s->optimizer.total_steps);
    put_f64(&b, s->warmup_lr);
    CHECK(!b.bad);
    digest_tagged(out, "muster/settings", buf_bytes(&b));
    buf_clear(&b);
}

float learn_rate(const struct learn_settings *s, uint64_t step)
{
    uint64_t warm = s->optimizer.warm_steps;
    double lr = s->optimizer.lr, end = s->optimizer.lr_end;
    double done;

    if (step < warm)
        return (float)(lr * (double)(step + 1) / (double)warm);
    if (s->optimizer.schedule == LEARN_CONSTANT || s->optimizer.total_steps <= warm)
        return (float)lr;
    done = (double)(step - warm) / (double)(s->optimizer.total_steps - warm);
    done = done < 1.0 ? done : 1.0;
    if (s->optimizer.schedule == LEARN_LINEAR)
        return (float)(lr * (1.0 + (end - 1.0) * done));
    return (float)(lr * (end + (1.0 - end) * 0.5 * (1.0 + cos_f64(PI * done))));
}

/* Refreshes the published weights of the host. */
static void publish(struct learner *l)
{
    if (l->published) {
        weights_copy(l->published, l->masters);
        weights_round(l->published, l->masters->config.dtype);
    }
}

enum status learner_fetch(struct learner *l, struct err *e)
{
    enum status st;

    if (!l->is_behind)
        return OK;
    st = train_fetch(l->train, l->opt, l->masters, e);
    if (st)
        return st;
    publish(l);
    l->is_behind = false;
    return OK;
}

uint64_t learner_bytes(const struct model_config *c, const struct learner_options *options)
{
    uint64_t train = train_bytes(c, options->kernels, options->max_rows, options->recompute);
    uint64_t state = model_config_params(c) * sizeof(float) * (c->dtype == DTYPE_F32 ? 3 : 4);

    return train > UINT64_MAX - state ? UINT64_MAX : train + state;
}

enum status learner_new(struct learner **out, struct weights **masters, struct adamw **opt,
                        const struct learn_settings *settings,
                        const struct learner_options *options, struct err *e)
{
    struct learner *l = xcalloc(1, sizeof(*l));
    enum status st = OK;

    *out = NULL;
    l->settings = *settings;
    l->options = *options;
    l->masters = *masters;
    l->opt = opt ? *opt : NULL;
    *masters = NULL;
    if (opt)
        *opt = NULL;
    if (!l->opt)
        st = adamw_new(&l->opt, &l->masters->config, e);
    if (!st && l->masters->config.dtype != DTYPE_F32)
        st = weights_new(&l->published, &l->masters->config, e);
    if (!st) {
        publish(l);
        const struct train_options topt = {
            .kernels = options->kernels,
            .pool = options->pool,
            .max_rows = options->max_rows,
            .max_bytes = options->max_bytes,
            .recompute = options->recompute,
        };
        st = train_new(&l->train, learner_published(l), &topt, e);
    }
    if (st)
        learner_free(&l);
    *out = l;
    return st;
}

void learner_free(struct learner **l)
{
    if (!*l)
        return;
    train_free(&(*l)->train);
    adamw_free(&(*l)->opt);
    weights_free(&(*l)->published);
    weights_free(&(*l)->masters);
    free(*l);
    *l = NULL;
}

const struct weights *learner_published(const struct learner *l)
{
    return l->published ? l->published : l->masters;
}

enum status learner_roots(const struct learner *l, struct digest *masters,
                          struct digest *optimizer, struct err *e)
{
    return state_roots(masters, optimizer, l->masters, l->opt, l->options.pool, e);
}

/* The arrays of one micro-batch, of max_rows rows. */
struct micro {
    int32_t *tokens, *targets;
    float *logp;
    size_t *lengths;
    size_t rows, n_seqs, first; /* `first`: index of its first sequence */
};

static enum status micro_init(struct micro *m, size_t max_rows, struct err *e)
{
    enum status st;

    memset(m, 0, sizeof(*m));
    st = alloc_array(&m->tokens, max_rows, sizeof(*m->tokens), "a micro-batch", e);
    if (!st)
        st = alloc_array(&m->targets, max_rows, sizeof(*m->targets), "a micro-batch", e);
    if (!st)
        st = alloc_array(&m->logp, max_rows, sizeof(*m->logp), "a micro-batch", e);
    if (!st)
        st = alloc_array(&m->lengths, max_rows, sizeof(*m->lengths), "a micro-batch", e);
    return st;
}

static void micro_clear(struct micro *m)
{
    free(m->tokens);
    free(m->targets);
    free(m->logp);
    free(m->lengths);
}

static void micro_reset(struct micro *m, size_t first)
{
    m->rows = 0;
    m->n_seqs = 0;
    m->first = first;
}

static struct train_batch micro_batch(const struct micro *m, float temperature)
{
    return (struct train_batch){
        .tokens = m->tokens,
        .targets = m->targets,
        .lengths = m->lengths,
        .n_seqs = m->n_seqs,
        .rows = m->rows,
        .temperature = temperature,
    };
}

/* Rows of a sequence of n tokens: one for each token that another follows. `is_target` says which
 * tokens bear loss; NULL: those from `from` on. */
static void micro_add(struct micro *m, const int32_t *tokens, size_t n,
                      const uint8_t *is_target, size_t from)
{
    for (size_t r = 0; r + 1 < n; r++) {
        bool wanted = is_target ? is_target[r + 1] == 1 : r + 1 >= from;

        m->tokens[m->rows + r] = tokens[r];
        m->targets[m->rows + r] = wanted ? tokens[r + 1] : -1;
    }
    m->rows += n - 1;
    m->lengths[m->n_seqs++] = n - 1;
}

struct tally {
    double objective, kl;
    float ratio_max;
    uint64_t n_clipped;
};

/* What a policy's loss weights are made of. Rows come in order, so the sequence is one that is
 * walked along. */
struct policy {
    const struct learner *l;
    const struct learn_batch *b;
    const struct micro *m;
    struct tally *t;
    size_t seq, start; /* of the micro-batch, and its first row */
};

static float weigh_policy(void *arg, size_t row, float logp)
{
    struct policy *p = arg;

    while (row - p->start >= p->m->lengths[p->seq])
        p->start += p->m->lengths[p->seq++];
    const struct learn_sample *s = &p->b->sample[p->m->first + p->seq];
    float mu = s->logprobs[row - p->start + 1];
    struct loss_token k = loss_token_of(logp, mu, s->advantage, &p->l->settings.loss);

    p->t->objective += (double)k.objective;
    p->t->kl += (double)(k.ratio - 1.0f - (logp - mu));
    p->t->n_clipped += k.is_clipped;
    p->t->ratio_max = k.ratio > p->t->ratio_max ? k.ratio : p->t->ratio_max;
    return k.coef / (float)p->b->n_tokens;
}

static enum status run_micro_policy(struct learner *l, struct micro *m,
                                    const struct learn_batch *b, struct tally *t, struct err *e)
{
    struct train_batch tb = micro_batch(m, l->settings.temperature);
    struct policy p = {.l = l, .b = b, .m = m, .t = t};

    return train_gradients(l->train, &tb, weigh_policy, &p, m->logp, e);
}

static enum status too_long(size_t n, size_t max_rows, struct err *e)
{
    return err_set(e, ERR_LIMIT, "a sequence of %zu tokens does not fit %zu rows", n, max_rows);
}

static enum status gradients_policy(struct learner *l, const struct learn_batch *b,
                                    struct tally *t, struct err *e)
{
    size_t max_rows = l->options.max_rows;
    struct micro m;
    enum status st = micro_init(&m, max_rows, e);

    for (size_t i = 0; !st && i < b->n_samples; i++) {
        const struct learn_sample *s = &b->sample[i];

        if (s->n - 1 > max_rows) {
            st = too_long(s->n, max_rows, e);
            break;
        }
        if (m.rows + s->n - 1 > max_rows) {
            st = run_micro_policy(l, &m, b, t, e);
            micro_reset(&m, i);
        }
        micro_add(&m, s->tokens, s->n, s->mask, 0);
    }
    if (!st && m.rows)
        st = run_micro_policy(l, &m, b, t, e);
    micro_clear(&m);
    return st;
}

static enum status take_step(struct learner *l, float lr, struct learn_report *report,
                             struct err *e)
{
    const struct adamw_settings s = {
        .lr = lr,
        .beta1 = l->settings.optimizer.beta1,
        .beta2 = l->settings.optimizer.beta2,
        .eps = l->settings.optimizer.eps,
        .weight_decay = l->settings.optimizer.weight_decay,
        .clip_norm = l->settings.optimizer.clip_norm,
    };
    struct adamw_report a = {0};
    enum status st;

    train_finish(l->train);
    st = train_update(l->train, l->opt, l->masters, &s, &a, e);
    l->is_behind = true;
    if (!st && !l->options.is_lazy)
        st = learner_fetch(l, e);
    if (!st)
        st = train_publish(l->train, learner_published(l), e);
    if (st)
        return st;
    report->grad_norm = a.grad_norm;
    report->lr = lr;
    return OK;
}

static enum status tamper(struct learner *l, struct err *e)
{
    struct weights *grads;
    enum status st = train_grads(&grads, l->train, e);

    if (st)
        return st;
    l->options.tamper(grads);
    train_grads_set(l->train, grads);
    return OK;
}

enum status learner_step(struct learner *l, const struct learn_batch *b, uint64_t step,
                         struct learn_report *report, struct err *e)
{
    struct tally t = {0};
    enum status st;

    memset(report, 0, sizeof(*report));
    report->reward_mean = b->reward_mean;
    report->n_tokens = b->n_tokens;
    if (!b->n_samples || !b->n_tokens)
        return OK;
    train_zero(l->train);
    st = gradients_policy(l, b, &t, e);
    if (st)
        return st;
    if (l->options.tamper)
        st = tamper(l, e);
    if (st)
        return st;
    report->loss = (float)(-t.objective / (double)b->n_tokens);
    report->kl = (float)(t.kl / (double)b->n_tokens);
    report->ratio_max = t.ratio_max;
    report->clipped = (float)((double)t.n_clipped / (double)b->n_tokens);
    if (!isfinite(report->loss))
        return err_set(e, ERR_NUMERIC, "the loss of step %llu is not finite",
                       (unsigned long long)step);
    return take_step(l, learn_rate(&l->settings, step), report, e);
}

struct imitation {
    float n_targets;
    double loss; /* summed over the targets */
};

static float weigh_demo(void *arg, size_t row, float logp)
{
    struct imitation *i = arg;

    (void)row;
    i->loss -= (double)logp;
    return 1.0f / i->n_targets;
}

/* One micro-batch: with gradients, or only the loss. */
static enum status run_micro_demo(struct learner *l, struct micro *m, struct imitation *im,
                                  bool is_step, struct err *e)
{
    struct train_batch tb = micro_batch(m, 1.0f);
    enum status st;

    if (is_step)
        return train_gradients(l->train, &tb, weigh_demo, im, m->logp, e);
    st = train_forward(l->train, &tb, m->logp, e);
    for (size_t r = 0; !st && r < m->rows; r++)
        if (m->targets[r] >= 0)
            im->loss -= (double)m->logp[r];
    return st;
}

static uint64_t count_targets(const struct learn_demo *demo, size_t n)
{
    uint64_t count = 0;

    for (size_t i = 0; i < n; i++)
        if (!demo[i].is_answer)
            count += demo[i].n - demo[i].n_prompt;
        else
            for (size_t t = 1; t < demo[i].n; t++)
                count += demo[i].is_answer[t] == 1;
    return count;
}

/* All demonstrations, in micro-batches: fills in loss and n_tokens of the report. */
static enum status run_demos(struct learner *l, const struct learn_demo *demo, size_t n,
                             bool is_step, struct learn_report *report, struct err *e)
{
    size_t max_rows = l->options.max_rows;
    uint64_t n_targets = count_targets(demo, n);
    struct imitation im = {.n_targets = (float)n_targets};
    struct micro m;
    enum status st = micro_init(&m, max_rows, e);

    memset(report, 0, sizeof(*report));
    if (!st && !n_targets)
        st = err_set(e, ERR_INVALID, "demonstrations without an answer");
    for (size_t i = 0; !st && i < n; i++) {
        if (demo[i].n < 2 || demo[i].n - 1 > max_rows) {
            st = too_long(demo[i].n, max_rows, e);
            break;
        }
        if (m.rows + demo[i].n - 1 > max_rows) {
            st = run_micro_demo(l, &m, &im, is_step, e);
            micro_reset(&m, i);
        }
        micro_add(&m, demo[i].tokens, demo[i].n, demo[i].is_answer, demo[i].n_prompt);
    }
    if (!st && m.rows)
        st = run_micro_demo(l, &m, &im, is_step, e);
    micro_clear(&m);
    if (st)
        return st;
    report->loss = (float)(im.loss / (double)n_targets);
    report->n_tokens = n_targets;
    if (!isfinite(report->loss))
        return err_set(e, ERR_NUMERIC, "the loss of a supervised step is not finite");
    return OK;
}

enum status learner_imitate(struct learner *l, const struct learn_demo *demo, size_t n,
                            struct learn_report *report, struct err *e)
{
    enum status st;

    train_zero(l->train);
    st = run_demos(l, demo, n, true, report, e);
    return st ? st : take_step(l, (float)l->settings.warmup_lr, report, e);
}

enum status learner_evaluate(struct learner *l, const struct learn_demo *demo, size_t n,
                             struct learn_report *report, struct err *e)
{
    return run_demos(l, demo, n, false, report, e);
}
