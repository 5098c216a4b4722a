/*
 * cli/bench_attack.h - nodes of a measurement that lie, and what becomes of it
 *
 * A liar is a real node (`muster cast-node`) that is told so, once all are linked, by `cheat KIND`;
 * shardcast/cast.h says what each kind does. Of the kinds below, `slow` is none of those: it serves
 * 100 kb/s.
 *
 *   garbage, forge, stale, empty, silent, slow   a share of the receivers, the last ones
 *   equivocate                                   the origin
 *   freeze                                       all but node 1, against node 1
 *
 * Threads: one.
 */
#ifndef CLI_BENCH_ATTACK_H
#define CLI_BENCH_ATTACK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "cli/bench_nodes.h"

#define BENCH_ATTACK_VICTIM 1u /* of a freeze */

enum bench_attack_course {
    BENCH_ATTACK_NONE,
    BENCH_ATTACK_SHARE, /* by some receivers: all finish nevertheless */
    BENCH_ATTACK_EQUIVOCATE,
    BENCH_ATTACK_FREEZE,
};

struct bench_attack {
    enum bench_attack_course course;
    const char *name; /* NULL: none */
    bool is_named;    /* honest logs name those that do it */
    bool is_slow;
    double share;
};

/* "KIND" or "KIND:SHARE", a share of the receivers; "" is none. ERR_INVALID. */
MUST_USE enum status bench_attack_parse(struct bench_attack *a, const char *text,
                                        struct err *e);
size_t bench_attack_n_bad(const struct bench_attack *a, size_t n_nodes);
bool bench_attack_is_bad(const struct bench_attack *a, size_t n_nodes, size_t i);
/* Tells those that lie, and waits until they do. */
MUST_USE enum status bench_attack_begin(const struct bench_attack *a, struct bench_nodes *b,
                                        struct err *e);

struct bench_attack_named {
    size_t liars, others; /* that the log of an honest node names as banned or refused */
};
/* Prints to stderr, for each liar, which logs name it and why. */
void bench_attack_named(const struct bench_attack *a, const struct bench_nodes *b,
                        struct bench_attack_named *out);

struct bench_attack_result {
    double n_stopped;     /* nodes that stopped, the origin among them */
    double stopped_s;     /* until the last did, from the moment the trainer began */
    double n_proofs;      /* files of theirs that prove it to anybody */
    double restarted;     /* 1: alone and started again, node 1 still knew */
    double noticed_s;     /* from the last HEAD that could get to it until the victim said so */
    double fresh_again_s; /* from the end of the freeze until it had what was kept from it */
};
/* Publishes version 1 of `bytes` twice under one name, and waits until everybody stopped; then
 * starts node 1 again, with nobody to tell it: `restart` does. */
typedef enum status bench_attack_restart(void *arg, size_t i, struct err *e);
MUST_USE enum status bench_attack_equivocate(struct bench_nodes *b, double bytes,
                                             bench_attack_restart *restart, void *arg,
                                             struct bench_attack_result *r, struct err *e);
/* Publishes version 1 of `bytes`, which gets to all but the victim, and waits until that notices;
 * then lets go of it. */
MUST_USE enum status bench_attack_freeze(struct bench_nodes *b, double bytes, double limit_s,
                                         struct bench_attack_result *r, struct err *e);

#endif
