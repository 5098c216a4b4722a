/*
 * base/effect.h - what a pure state machine asks its shell to do
 *
 * Every role is `<role>_step(state, input, now, out)`: it reads no clock, opens no file and
 * sends nothing. It appends effects to `out`, and the shell (node/shell.h) carries them out in
 * order: all PUTs and DELs of a step reach the disk in one transaction before any SEND of that
 * step leaves. If the transaction fails, the shell stops the process: a restart rebuilds the
 * state from what was PUT, so memory never runs ahead of the disk.
 */
#ifndef BASE_EFFECT_H
#define BASE_EFFECT_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum effect_kind {
    EFFECT_PUT,   /* table, key, value */
    EFFECT_DEL,   /* table, key */
    EFFECT_SEND,  /* to, value: one encoded message */
    EFFECT_START, /* job, value: arguments for a job outside the state machine */
    EFFECT_TIMER, /* at: wake the machine no later than this */
};

/* Whom a SEND goes to. What the numbers mean is the shell's business: for a server `peer` names
 * the connection the request came in by, for a client the link it was told to open. */
struct effect {
    enum effect_kind kind;
    unsigned table;     /* PUT, DEL */
    uint32_t job;       /* START: the role's own job kinds */
    uint64_t peer;      /* SEND; START may carry a number here */
    int64_t at_ms;      /* TIMER: monotonic */
    struct bytes key;   /* borrowed from the list */
    struct bytes value; /* borrowed from the list */
};

/* The list owns copies of all keys and values. */
struct effects {
    struct effect *v; /* owned */
    size_t n;
    size_t cap;
};

void effects_init(struct effects *l);
void effects_clear(struct effects *l); /* frees; as after init */
void effects_reset(struct effects *l); /* forgets the effects, keeps the array */
void effects_put(struct effects *l, unsigned table, struct bytes key, struct bytes value);
void effects_del(struct effects *l, unsigned table, struct bytes key);
void effects_send(struct effects *l, uint64_t peer, struct bytes message);
void effects_start(struct effects *l, uint32_t job, uint64_t number, struct bytes args);
void effects_timer(struct effects *l, int64_t at_ms);

#endif
