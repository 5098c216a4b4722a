#include "inference/cheat.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "inference/cheat_hooks.h"
#include "proto/opening.h"
#include "proto/submission.h"
#include "proto/toploc.h"
#include "rollout/restate.h"

#define TRIES    4u  /* of best-of */
#define OWN_SEED 77u /* of problems of its own choice */

/* Makes units in a manner of its own, instead of rollout_generate in a world of other weights and
 * draws. */
typedef enum status make_fn(struct cheat *c, const struct rollout_world *w,
                            struct rollout_unit *units, size_t n, rollout_progress *progress,
                            void *progress_arg, struct err *e);
static make_fn make_best, make_prompt, make_hint, make_copy_own, make_copy_other;

#define R(name)  CHEAT_REASON(name)
#define TEXT     (R(PROMPT) | R(FINISH) | R(REWARD)) /* who says other words differs early */
#define SAMPLED  (R(TOKEN) | R(LOGPROB))
#define COMPUTED (R(MARGIN) | R(LIKELIHOOD) | R(STATES))

static const struct kind {
    uint64_t found, found_open;
    bool is_light, restates;
    enum cheat_model model;
    void (*weights)(struct weights *w);
    cheat_cache_fn *cache;
    cheat_draw_fn *draw;
    cheat_edit_fn *edit;
    make_fn *make;
    uint32_t one_in; /* units on which it cheats; 0: all */
} kinds[CHEAT_COUNT] = {
    [CHEAT_OTHER] = {SAMPLED, COMPUTED, .model = CHEAT_MODEL_ALTERED,
                     .weights = cheat_weights_other},
    [CHEAT_INT8] = {SAMPLED, COMPUTED, .model = CHEAT_MODEL_ALTERED,
                    .weights = cheat_weights_int8},
    [CHEAT_INT4] = {SAMPLED, COMPUTED, .model = CHEAT_MODEL_ALTERED,
                    .weights = cheat_weights_int4},
    [CHEAT_FP8_CACHE] = {SAMPLED, COMPUTED, .model = CHEAT_MODEL_ALTERED,
                         .cache = cheat_cache_fp8},
    [CHEAT_STALE] = {SAMPLED, COMPUTED, .model = CHEAT_MODEL_OLDEST},
    [CHEAT_DRAFT] = {R(TOKEN), R(MARGIN), .model = CHEAT_MODEL_ALTERED, .restates = true,
                     .weights = cheat_weights_half},
    [CHEAT_HOT] = {R(TOKEN), R(MARGIN), .draw = cheat_draw_hot},
    [CHEAT_GREEDY] = {R(TOKEN), R(MARGIN), .draw = cheat_draw_greedy},
    [CHEAT_TOP_P] = {R(TOKEN), R(MARGIN), .draw = cheat_draw_top_p},
    [CHEAT_BEST_OF] = {R(TOKEN), R(MARGIN), .restates = true, .make = make_best},
    [CHEAT_SEED] = {R(TOKEN), R(MARGIN), .draw = cheat_draw_seed},
    [CHEAT_PROMPT] = {R(PROMPT) | SAMPLED, R(PROMPT) | COMPUTED, .is_light = true,
                      .make = make_prompt},
    [CHEAT_HINT] = {TEXT | SAMPLED, TEXT | COMPUTED, .make = make_hint},
    [CHEAT_TRUNCATE] = {R(FINISH), R(FINISH), .is_light = true, .edit = cheat_edit_truncate},
    [CHEAT_PAD] = {R(FINISH) | R(BOUNDS), R(FINISH) | R(BOUNDS), .is_light = true,
                   .edit = cheat_edit_pad},
    [CHEAT_COPY_OWN] = {TEXT | SAMPLED, TEXT | COMPUTED, .make = make_copy_own},
    [CHEAT_COPY_OTHER] = {TEXT | SAMPLED, TEXT | COMPUTED, .make = make_copy_other},
    [CHEAT_REWARD] = {R(REWARD), R(REWARD), .is_light = true, .edit = cheat_edit_reward},
    [CHEAT_LOGPROB] = {R(LOGPROB), R(LIKELIHOOD), .edit = cheat_edit_logprob},
    [CHEAT_TOKENS] = {TEXT | R(BOUNDS) | SAMPLED, TEXT | R(BOUNDS) | COMPUTED,
                      .edit = cheat_edit_tokens},
    [CHEAT_PROOF_FORGED] = {0, R(STATES), .edit = cheat_edit_proof_forged},
    [CHEAT_PROOF_CONSTANT] = {0, R(STATES), .edit = cheat_edit_proof_constant},
    [CHEAT_PROOF_CHANNEL] = {0, R(STATES), .edit = cheat_edit_proof_channel},
    [CHEAT_PROOF_NULL] = {0, R(STATES), .edit = cheat_edit_proof_null},
    [CHEAT_PROOF_LONG] = {0, R(BOUNDS), .edit = cheat_edit_proof_long},
    [CHEAT_UNOPENED] = {0, R(UNOPENED), .edit = cheat_edit_unopened},
    [CHEAT_RARE_TOKENS] = {R(TOKEN), R(MARGIN), .draw = cheat_draw_rarely},
    [CHEAT_RARE_UNITS] = {R(TOKEN), R(MARGIN), .draw = cheat_draw_greedy, .one_in = 20},
};

struct cheat {
    enum infer_cheat kind;
    struct buf first, opening; /* owned: the first submission and its opening, for copies */
};

/* ---- the table --------------------------------------------------------------------------- */

#define CHEAT_NAME(member, name, about)  [CHEAT_##member] = (name),
#define CHEAT_ABOUT(member, name, about) [CHEAT_##member] = (about),

const char *infer_cheat_name(enum infer_cheat c)
{
    static const char *const names[CHEAT_COUNT] = {"none", CHEAT_MAP(CHEAT_NAME)};

    return c < CHEAT_COUNT ? names[c] : "?";
}

const char *infer_cheat_about(enum infer_cheat c)
{
    static const char *const about[CHEAT_COUNT] = {"is honest", CHEAT_MAP(CHEAT_ABOUT)};

    return c < CHEAT_COUNT ? about[c] : "?";
}

enum infer_cheat infer_cheat_parse(const char *name)
{
    int c = 0;

    while (c < CHEAT_COUNT && strcmp(infer_cheat_name((enum infer_cheat)c), name) != 0)
        c++;
    return (enum infer_cheat)c;
}

uint64_t cheat_reasons(enum infer_cheat c, bool is_open)
{
    return is_open ? kinds[c].found_open : kinds[c].found;
}

bool cheat_applies(enum infer_cheat c, enum numerics n)
{
    return c == CHEAT_NONE || cheat_reasons(c, opening_is_wanted(numerics_name(n))) != 0;
}

bool cheat_is_light(enum infer_cheat c)
{
    return kinds[c].is_light;
}

enum cheat_model cheat_model(enum infer_cheat c)
{
    return kinds[c].model;
}

void cheat_weights(enum infer_cheat c, struct weights *w)
{
    if (kinds[c].weights)
        kinds[c].weights(w);
}

cheat_cache_fn *cheat_cache(enum infer_cheat c)
{
    return kinds[c].cache;
}

void cheat_new(struct cheat **out, enum infer_cheat kind)
{
    struct cheat *c = xcalloc(1, sizeof(*c));

    c->kind = kind;
    buf_init(&c->first, MSG_MAX_BYTES);
    buf_init(&c->opening, MSG_MAX_BYTES);
    *out = c;
}

void cheat_free(struct cheat **c)
{
    if (!*c)
        return;
    buf_clear(&(*c)->first);
    buf_clear(&(*c)->opening);
    free(*c);
    *c = NULL;
}

/* ---- rewriting a submission -------------------------------------------------------------- */

static enum status edit_begin(struct cheat_edit *x, const struct rollout_world *w,
                              struct bytes body, struct bytes opening, struct err *e)
{
    enum status st;

    memset(x, 0, sizeof(*x));
    x->w = w;
    x->m = xcalloc(1, sizeof(*x->m));
    st = msg_submit_decode(x->m, body, e);
    x->is_open = opening.len > 0;
    return st || !x->is_open ? st : msg_opening_decode(&x->opening, opening, e);
}

/* Puts `from` in place of what `to` holds, which it may lend from. */
static enum status replace(struct buf *to, const struct buf *from, struct err *e)
{
    buf_reset(to);
    buf_append(to, buf_bytes(from));
    return buf_status(to, e);
}

/* Seals what it says now, roots included, and puts it in place of the unit's body and opening. */
static enum status edit_end(struct cheat_edit *x, enum status st, struct rollout_unit *u,
                            struct err *e)
{
    struct buf body, opening;

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&opening, MSG_MAX_BYTES);
    if (!st) {
        x->m->unit = x->opening.unit = u->unit;
        x->m->lease = x->opening.lease = u->lease;
        if (x->is_open && x->opening.proofs.len == opening_chunks(x->m) * TOPLOC_PROOF_BYTES)
            opening_root(&x->m->opening, x->m, &x->opening);
        submission_root(&x->m->root, x->m);
        st = msg_submit_encode(&body, x->m, e);
    }
    if (!st && x->is_open)
        st = msg_opening_encode(&opening, &x->opening, e);
    if (!st) {
        u->tokens = submission_tokens(x->m); /* which may lend from the body still */
        st = replace(&u->body, &body, e);
    }
    if (!st)
        st = replace(&u->opening, &opening, e);
    buf_clear(&body);
    buf_clear(&opening);
    cheat_edit_clear(x);
    free(x->m);
    return st;
}

/* `edit` may be NULL: it is sealed only. */
static enum status edit_unit(const struct rollout_world *w, cheat_edit_fn *edit,
                             struct rollout_unit *u, struct err *e)
{
    struct cheat_edit x;
    enum status st = edit_begin(&x, w, buf_bytes(&u->body), buf_bytes(&u->opening), e);

    if (!st && edit)
        edit(&x);
    return edit_end(&x, st, u, e);
}

/* The true model's log-probabilities, and its opening, for the tokens of `u`. */
static enum status restate_unit(const struct rollout_world *w, struct rollout_unit *u,
                                struct err *e)
{
    struct buf logprobs[MSG_MAX_SAMPLES], opening;
    struct cheat_edit x;
    enum status st = edit_begin(&x, w, buf_bytes(&u->body), (struct bytes){NULL, 0}, e);
    uint32_t n = st ? 0 : x.m->n_samples;

    buf_init(&opening, MSG_MAX_BYTES);
    for (uint32_t i = 0; i < n; i++)
        buf_init(&logprobs[i], MSG_MAX_BYTES);
    if (!st)
        st = restate_samples(w, x.m, logprobs, &opening, NULL, e);
    for (uint32_t i = 0; !st && i < n; i++)
        x.m->sample[i].logprobs = buf_bytes(&logprobs[i]);
    x.is_open = opening.len > 0;
    if (!st && x.is_open)
        st = msg_opening_decode(&x.opening, buf_bytes(&opening), e);
    st = edit_end(&x, st, u, e);
    buf_clear(&opening);
    for (uint32_t i = 0; i < n; i++)
        buf_clear(&logprobs[i]);
    return st;
}

/* Puts the answers of `body` under the unit's own prompt. */
static enum status claim_answers(const struct rollout_world *w, struct bytes body,
                                 struct bytes opening, struct rollout_unit *u, struct err *e)
{
    struct cheat_edit x;
    struct buf prompt;
    enum status st = edit_begin(&x, w, body, opening, e);

    buf_init(&prompt, MSG_MAX_BYTES);
    if (!st)
        st = restate_prompt(w, u->unit, &prompt, e);
    if (!st)
        x.m->prompt = buf_bytes(&prompt);
    st = edit_end(&x, st, u, e);
    buf_clear(&prompt);
    return st;
}

/* ---- other ways of making units ---------------------------------------------------------- */

/* The better sample of two submissions in each place. */
static void keep_better(struct msg_submit *best, const struct msg_submit *other)
{
    for (uint32_t i = 0; i < best->n_samples && i < other->n_samples; i++)
        if (other->sample[i].reward > best->sample[i].reward)
            best->sample[i] = other->sample[i];
}

/* Try 0 is the honest one, the others have other seeds. */
static enum status one_try(const struct rollout_world *w, uint64_t number,
                           struct rollout_unit *u, struct err *e)
{
    uint64_t seed = number << 32;
    struct rollout_world own = *w;

    own.choose = number ? cheat_draw_seed : NULL;
    own.choose_ctx = &seed;
    return rollout_generate(&own, u, 1, NULL, NULL, e);
}

static enum status best_of_tries(const struct rollout_world *w, struct rollout_unit *u,
                                 struct err *e)
{
    struct rollout_unit other[TRIES];
    struct msg_submit *m[TRIES];
    enum status st = OK;

    for (uint32_t i = 0; i < TRIES; i++) {
        rollout_unit_init(&other[i], u->unit, u->lease);
        m[i] = xcalloc(1, sizeof(*m[i]));
        if (!st)
            st = one_try(w, i, &other[i], e);
        if (!st)
            st = msg_submit_decode(m[i], buf_bytes(&other[i].body), e);
        if (!st)
            keep_better(m[0], m[i]);
    }
    if (!st)
        st = msg_submit_encode(&u->body, m[0], e);
    if (!st)
        st = edit_unit(w, NULL, u, e);
    for (uint32_t i = 0; i < TRIES; i++) {
        rollout_unit_clear(&other[i]);
        free(m[i]);
    }
    return st;
}

static enum status make_best(struct cheat *c, const struct rollout_world *w,
                             struct rollout_unit *units, size_t n, rollout_progress *progress,
                             void *progress_arg, struct err *e)
{
    enum status st = OK;

    (void)c;
    for (size_t i = 0; !st && i < n; i++) {
        st = best_of_tries(w, &units[i], e);
        if (!st && progress)
            progress(progress_arg, units[i].unit, units[i].tokens);
    }
    return st;
}

/* The world in which units pose other problems. */
static struct rollout_world with_own_problems(const struct rollout_world *w)
{
    struct rollout_world own = *w;

    own.plan.seed ^= OWN_SEED;
    return own;
}

static enum status make_prompt(struct cheat *c, const struct rollout_world *w,
                               struct rollout_unit *units, size_t n, rollout_progress *progress,
                               void *progress_arg, struct err *e)
{
    const struct rollout_world own = with_own_problems(w);

    (void)c;
    return rollout_generate(&own, units, n, progress, progress_arg, e);
}

static enum status make_hint(struct cheat *c, const struct rollout_world *w,
                             struct rollout_unit *units, size_t n, rollout_progress *progress,
                             void *progress_arg, struct err *e)
{
    enum status st = make_prompt(c, w, units, n, progress, progress_arg, e);

    for (size_t i = 0; !st && i < n; i++)
        st = claim_answers(w, buf_bytes(&units[i].body), buf_bytes(&units[i].opening),
                           &units[i], e);
    return st;
}

static enum status make_copy_own(struct cheat *c, const struct rollout_world *w,
                                 struct rollout_unit *units, size_t n,
                                 rollout_progress *progress, void *progress_arg, struct err *e)
{
    enum status st = OK;
    size_t i = 0;

    if (c->first.len == 0) {
        st = rollout_generate(w, units, 1, progress, progress_arg, e);
        if (!st) {
            buf_append(&c->first, buf_bytes(&units[0].body));
            buf_append(&c->opening, buf_bytes(&units[0].opening));
        }
        i = 1;
    }
    for (; !st && i < n; i++)
        st = claim_answers(w, buf_bytes(&c->first), buf_bytes(&c->opening), &units[i], e);
    return st;
}

/* What honest workers submit for the unit next to it is what this gives. */
static enum status make_copy_other(struct cheat *c, const struct rollout_world *w,
                                   struct rollout_unit *units, size_t n,
                                   rollout_progress *progress, void *progress_arg,
                                   struct err *e)
{
    enum status st = OK;

    (void)c;
    for (size_t i = 0; !st && i < n; i++) {
        struct rollout_unit other;

        rollout_unit_init(&other, units[i].unit + 1, units[i].lease);
        st = rollout_generate(w, &other, 1, progress, progress_arg, e);
        if (!st)
            st = claim_answers(w, buf_bytes(&other.body), buf_bytes(&other.opening), &units[i],
                               e);
        rollout_unit_clear(&other);
    }
    return st;
}

/* ---- the worker -------------------------------------------------------------------------- */

static enum status make(struct cheat *c, const struct rollout_world *w, struct model *other,
                        struct rollout_unit *units, size_t n, rollout_progress *progress,
                        void *progress_arg, struct err *e)
{
    const struct kind *k = &kinds[c->kind];
    struct rollout_world own = *w;
    enum status st;

    own.model = other;
    own.choose = k->draw;
    st = k->make ? k->make(c, &own, units, n, progress, progress_arg, e)
                 : rollout_generate(&own, units, n, progress, progress_arg, e);
    for (size_t i = 0; !st && i < n && k->restates; i++)
        st = restate_unit(w, &units[i], e);
    for (size_t i = 0; !st && i < n && k->edit; i++)
        st = edit_unit(w, k->edit, &units[i], e);
    return st;
}

enum status cheat_generate(struct cheat *c, const struct rollout_world *w, struct model *other,
                           struct rollout_unit *units, size_t n, rollout_progress *progress,
                           void *progress_arg, struct err *e)
{
    uint32_t one_in = kinds[c->kind].one_in;
    enum status st = OK;

    if (c->kind == CHEAT_NONE)
        return rollout_generate(w, units, n, progress, progress_arg, e);
    if (one_in == 0)
        return make(c, w, other, units, n, progress, progress_arg, e);
    for (size_t i = 0; !st && i < n; i++)
        st = units[i].unit % one_in == 0
                 ? make(c, w, other, &units[i], 1, progress, progress_arg, e)
                 : rollout_generate(w, &units[i], 1, progress, progress_arg, e);
    return st;
}
