/*
 * cli/replay_states.h - was a validator struck for its states rightly?
 *
 * STATES_JUDGE strikes a validator whose states are not what two others found (ledger/books.h). The
 * numbers are a function of the weights, the submission, r of the draw and the validator's key
 * (proto/states.h), so whoever has the weights computes them and needs to believe nobody. While a ledger is
 * read the cases are noted; when the weights of a version are at hand its cases are judged.
 *
 * Threads: one.
 */
#ifndef CLI_REPLAY_STATES_H
#define CLI_REPLAY_STATES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "ledger/body.h"
#include "ledger/books.h"
#include "proto/msg.h"
#include "rollout/rollout.h"

struct states_case {
    uint64_t unit, lease;
    int64_t version;
    struct digest draw, submission; /* the SUBMIT envelope */
    struct ledger_verdict verdict;  /* the struck validator's */
};

struct replay_states {
    struct ledger_verdict *verdict; /* owned: those with states */
    size_t n_verdicts, cap_verdicts;
    struct states_case *v; /* owned */
    size_t n, cap;
};
void replay_states_clear(struct replay_states *r);

/* Each VERDICT and STATES_JUDGE, after the books applied it. */
void replay_states_note(struct replay_states *r, const struct ledger_books *books,
                        enum ledger_type type, const union ledger_body *body);

/* What the struck validator said against what there is: at its own places, and at those of the ones it
 * opened, in its order. True: it said something else, and was struck rightly. */
bool replay_states_differ(const struct ledger_verdict *v, const struct digest *own,
                          const struct digest *opened);

/* Judges a case in the world of its version (the model included) and prints the line. `submission`: the
 * envelope. ERR_DIGEST: it was struck wrongly. ERR_UNSUPPORTED: the class has no states. */
MUST_USE enum status replay_states_judge(const struct states_case *c,
                                         const struct rollout_world *w, struct bytes submission,
                                         bool as_json, struct err *e);

#endif
