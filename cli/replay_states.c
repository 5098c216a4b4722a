#include "cli/replay_states.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/states.h"
#include "rollout/check.h"

void replay_states_clear(struct replay_states *r)
{
    free(r->verdict);
    free(r->v);
    memset(r, 0, sizeof(*r));
}

static void *grow(void *array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return array;
    *cap = *cap ? 2 * *cap : 16;
    return xrealloc(array, *cap * size);
}

void replay_states_note(struct replay_states *r, const struct ledger_books *books,
                        enum ledger_type type, const union ledger_body *body)
{
    const struct ledger_states_judge *x = &body->states_judge_;
    const struct ledger_unit *u;

    if (type == LEDGER_VERDICT && !digest_is_zero(&body->verdict_.states)) {
        r->verdict = grow(r->verdict, r->n_verdicts, &r->cap_verdicts, sizeof(*r->verdict));
        r->verdict[r->n_verdicts++] = body->verdict_;
    }
    u = type == LEDGER_STATES_JUDGE ? ledger_books_unit(books, x->unit) : NULL;
    for (size_t i = 0; u && i < r->n_verdicts; i++) {
        const struct ledger_verdict *v = &r->verdict[i];

        if (v->unit != x->unit || v->lease != x->lease ||
            !key_equal(&v->validator, &x->validator))
            continue;
        r->v = grow(r->v, r->n, &r->cap, sizeof(*r->v));
        r->v[r->n++] = (struct states_case){.unit = x->unit,
                                            .lease = x->lease,
                                            .version = u->version,
                                            .draw = ledger_books_drawn(books, x->unit),
                                            .submission = u->envelope,
                                            .verdict = *v};
    }
}

bool replay_states_differ(const struct ledger_verdict *v, const struct digest *own,
                          const struct digest *opened)
{
    struct digest states;

    states_seal(&states, &v->validator, own);
    if (!digest_equal(&states, &v->states))
        return true;
    for (uint32_t i = 0; i < v->n_opened; i++)
        if (!digest_equal(&v->opened[i].found, &opened[i]))
            return true;
    return false;
}

static enum status find(struct rollout_probe *probe, const struct rollout_world *w,
                        struct bytes submission, struct err *e)
{
    struct msg_submit *s = xcalloc(1, sizeof(*s));
    struct rollout_finding f;
    struct msg_envelope env;
    enum status st = msg_envelope_decode(&env, submission, e);

    if (!st)
        st = msg_submit_decode(s, env.body, e);
    if (!st)
        st = rollout_check(w, s, NULL, CHECK_FULL, probe, &f, e);
    if (!st && digest_is_zero(&probe->found[0]))
        st = err_set(e, ERR_UNSUPPORTED, "the submission is refused before any prefill: %s",
                     f.text);
    free(s);
    return st;
}

enum status replay_states_judge(const struct states_case *c, const struct rollout_world *w,
                                struct bytes submission, bool as_json, struct err *e)
{
    struct rollout_probe probe = {.draw = c->draw, .n = 1, .who = {c->verdict.validator}};
    char who[2 * KEY_BYTES + 1];
    bool is_right;
    enum status st;

    for (uint32_t i = 0; i < c->verdict.n_opened; i++)
        probe.who[probe.n++] = c->verdict.opened[i].validator;
    st = find(&probe, w, submission, e);
    if (st)
        return err_prefix(e, st, "states of unit %" PRIu64, c->unit);
    is_right = replay_states_differ(&c->verdict, &probe.found[0], &probe.found[1]);
    hex_encode(who, BYTES_OF(c->verdict.validator.b));
    if (as_json)
        printf("{\"unit\": %" PRIu64 ", \"lease\": %" PRIu64
               ", \"validator\": \"%s\", \"states_contradicted\": %s}\n",
               c->unit, c->lease, who, is_right ? "true" : "false");
    else
        printf("states of unit %" PRIu64 " by %.16s %s\n", c->unit, who,
               is_right ? "are not the unit's: it was struck rightly"
                        : "ARE the unit's: it was struck WRONGLY");
    fflush(stdout);
    return is_right ? OK
                    : err_set(e, ERR_DIGEST,
                              "validator %.16s was struck for the states of unit %" PRIu64
                              ", which are the unit's",
                              who, c->unit);
}
