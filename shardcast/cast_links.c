/*
 * shardcast/cast_links.c - between the overlay, the sockets and the machine: who is a neighbour
 */
#include "shardcast/cast_shell.h"

#include <stdio.h>

#include <sodium.h>

#include "base/clock.h"
#include "proto/digest.h"

#define LOG_MODULE "shardcast"
#include "base/log.h"

#define ENDPOINT_BYTES 256u
#define SHORT_KEY      17u /* 16 hexadecimal digits and a NUL */

void cast_links_open(struct cast *c)
{
    struct overlay_options o = {.self = c->key->transport};

    randombytes_buf(&o.salt, sizeof(o.salt));
    overlay_new(&c->overlay, &o);
    overlay_out_init(&c->moves);
}

void cast_links_close(struct cast *c)
{
    overlay_out_clear(&c->moves);
    overlay_free(&c->overlay);
    overlay_roster_free(&c->roster);
}

void cast_links_roster(struct cast *c, const struct msg_roster *m, int64_t now_ms)
{
    struct overlay_roster *before = c->roster;

    overlay_roster_new(&c->roster, m);
    overlay_set_roster(c->overlay, c->roster, now_ms, &c->moves);
    overlay_roster_free(&before);
}

/* ---- carrying out ------------------------------------------------------------------------ */

static void short_key(char out[SHORT_KEY], const struct public_key *key)
{
    hex_encode(out, (struct bytes){key->b, 8});
}

static void do_dial(struct cast *c, const struct overlay_act *a, int64_t now_ms)
{
    const struct public_key key = a->key; /* the list may move */
    char endpoint[ENDPOINT_BYTES];
    uint64_t control, data;
    struct err e;

    snprintf(endpoint, sizeof(endpoint), "%.*s", (int)a->value.len,
             (const char *)a->value.data);
    if (shell_connect(c->shell, c->part, endpoint, &key, CAST_FRAME_MAX, &control, &e)) {
        LOG_WARN("dial why=\"%s\"", e.text);
        return; /* the overlay gives it up in time */
    }
    if (shell_connect_paced(c->shell, c->part, endpoint, &key, CAST_FRAME_MAX, &data, &e)) {
        LOG_WARN("dial why=\"%s\"", e.text);
        data = 0; /* shards go by the other */
    }
    lanes_opened(&c->lanes, &key, control, data);
    c->hello_ms = now_ms;
    overlay_linked(c->overlay, &key, control, now_ms, &c->moves);
}

static void do_hang_up(struct cast *c, const struct overlay_act *a)
{
    shell_disconnect(c->shell, lanes_closed(&c->lanes, a->link));
    shell_disconnect(c->shell, a->link);
}

static void do_meet(struct cast *c, const struct overlay_act *a, int64_t now_ms)
{
    char hex[SHORT_KEY];

    short_key(hex, &a->key);
    LOG_DEBUG("neighbour peer=%s role=%s", hex, role_name((enum role)a->role));
    c->has_new_links = true;
    cast_state_meet(c->state, &a->key, a->link, a->role == ROLE_TRAINER, now_ms, &c->acts);
}

static void do_part(struct cast *c, const struct overlay_act *a, int64_t now_ms)
{
    char hex[SHORT_KEY];

    short_key(hex, &a->key);
    LOG_INFO("parted peer=%s why=\"%s\"", hex, a->why);
    c->has_new_links = true;
    cast_state_part(c->state, &a->key, now_ms, &c->acts);
}

static void do_suspect(struct cast *c, const struct overlay_act *a)
{
    char hex[SHORT_KEY];

    short_key(hex, &a->key);
    LOG_INFO("suspect peer=%s", hex);
    c->has_new_links = true;
}

void cast_links_settle(struct cast *c, int64_t now_ms, struct effects *out)
{
    for (size_t i = 0; i < c->moves.n; i++) {
        const struct overlay_act *a = &c->moves.v[i];
        switch (a->kind) {
        case OVERLAY_DIAL: do_dial(c, a, now_ms); break;
        case OVERLAY_HANG_UP: do_hang_up(c, a); break;
        case OVERLAY_SEND: effects_send(out, a->link, a->value); break;
        case OVERLAY_MEET: do_meet(c, a, now_ms); break;
        case OVERLAY_PART: do_part(c, a, now_ms); break;
        case OVERLAY_SUSPECT: do_suspect(c, a); break;
        case OVERLAY_WAKE: effects_timer(out, a->at_ms); break;
        }
    }
    overlay_out_reset(&c->moves);
}

/* ---- what comes in ----------------------------------------------------------------------- */

bool cast_links_message(struct cast *c, uint64_t link, const struct public_key *from,
                        struct bytes frame, int64_t now_ms)
{
    if (!overlay_is_message(frame))
        return overlay_heard(c->overlay, link, from, now_ms, &c->moves);
    overlay_message(c->overlay, link, from, frame, now_ms, &c->moves);
    return false;
}
