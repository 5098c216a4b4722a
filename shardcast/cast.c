#include "shardcast/cast.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "proto/digest.h"
#include "shardcast/cast_shell.h"

#define LOG_MODULE "shardcast"
#include "base/log.h"

#define ENDPOINT_BYTES 256u
#define PACE_MS        3     /* until a shard that found no room is tried again */
#define GIVE_UP_MS     10000 /* and until it is not tried any more */
#define STATUS_MS      1000  /* between two writings of DIR/shardcast.json while bytes move */
#define STATUS_IDLE_MS 10000

/* ---- shards on their way out ------------------------------------------------------------- */

static void forget_pending(struct cast *c, size_t i)
{
    buf_clear(&c->pending[i].frame);
    c->n_pending--;
    memmove(&c->pending[i], &c->pending[i + 1], (c->n_pending - i) * sizeof(*c->pending));
}

/* Tries all, the oldest of each link first. What went, or is given up, the machine is told. */
static void push_pending(struct cast *c, int64_t now_ms, struct effects *out)
{
    for (size_t i = 0; i < c->n_pending;) {
        struct cast_pending *p = &c->pending[i];
        enum status st = shell_try_send(c->shell, lanes_data(&c->lanes, p->link), &p->frame);
        bool is_over = st == ERR_NOT_FOUND || now_ms - p->since_ms > GIVE_UP_MS;
        if (st && !is_over) {
            i++;
            continue;
        }
        cast_state_served(c->state, p->link, &p->content, p->index, st ? 0 : p->bytes, now_ms,
                          &c->acts);
        forget_pending(c, i);
    }
    if (c->n_pending)
        effects_timer(out, now_ms + PACE_MS);
}

static struct cast_pending *add_pending(struct cast *c, const struct cast_act *a,
                                        int64_t now_ms)
{
    struct cast_pending *p;

    if (c->n_pending == c->cap_pending) {
        c->cap_pending = c->cap_pending ? 2 * c->cap_pending : 16;
        c->pending = xrealloc(c->pending, c->cap_pending * sizeof(*c->pending));
    }
    p = &c->pending[c->n_pending++];
    *p = (struct cast_pending){a->link, a->content, a->index, 0, now_ms, {0}};
    buf_init(&p->frame, CAST_FRAME_MAX);
    return p;
}

/* The shard is read to where it is sent from. The last one may be shorter than the machine knows as yet:
 * then a second time. */
static enum status make_frame(struct cast *c, const struct cast_act *a, struct cast_pending *p,
                              struct err *e)
{
    uint64_t expected = a->bytes;

    for (;;) {
        buf_reset(&p->frame);
        cast_state_shard(c->state, &p->frame, &a->content, a->index, (size_t)expected);
        size_t from = p->frame.len;
        enum status st = content_store_get(c->store, &a->content, a->index, &p->frame, e);
        p->bytes = st ? 0 : p->frame.len - from;
        if (st || p->bytes == expected)
            return st;
        expected = p->bytes;
    }
}

static void do_serve(struct cast *c, const struct cast_act *a, int64_t now_ms,
                     struct effects *out)
{
    struct cast_pending *p = add_pending(c, a, now_ms);
    struct err e;

    if (make_frame(c, a, p, &e)) {
        LOG_WARN("lost why=\"%s\"", e.text);
        buf_reset(&p->frame);
        cast_state_shard(c->state, &p->frame, &a->content, a->index, 0);
        cast_state_lost(c->state, &a->content, a->index, 0);
    }
    if (c->cheat && !cheat_serve(c, a, p)) {
        cast_state_served(c->state, a->link, &a->content, a->index, 0, now_ms, &c->acts);
        forget_pending(c, c->n_pending - 1);
    }
    push_pending(c, now_ms, out);
}

/* ---- carrying out ------------------------------------------------------------------------ */

static void do_complete(struct cast *c, const struct cast_act *a)
{
    char text[CONTENT_TEXT_BYTES];

    if (!cast_state_is_complete(c->state, &a->content))
        return; /* a shard of it could not be stored after all, or it is of another run */
    content_text(text, &a->content);
    LOG_INFO("complete content=\"%s\"", text);
    if (a->content.kind == CONTENT_FULL && c->opt.on_version)
        c->opt.on_version(c->opt.ctx, a->content.version);
}

static void do_sign(struct cast *c, const struct cast_act *a, int64_t now_ms)
{
    struct buf head;
    struct idem idem;
    struct digest d;
    struct err e;
    enum status st;

    digest_of(&d, a->value);
    memcpy(idem.b, d.b, sizeof(idem.b));
    buf_init(&head, MSG_MAX_BYTES);
    st =
        msg_envelope_encode(&head, MSG_HEAD, &c->run, &idem, a->value, c->key->node_secret, &e);
    if (!st)
        st = cast_state_head(c->state, buf_bytes(&head), now_ms, &c->acts, &e);
    if (st)
        LOG_ERROR("head why=\"%s\"", e.text);
    buf_clear(&head);
}

static void do_fresh(struct cast *c, const struct cast_act *a, int64_t now_ms,
                     struct effects *out)
{
    c->is_frozen = !a->is_fresh;
    c->was_fresh = c->was_fresh || a->is_fresh;
    c->status_ms = 0; /* whoever looks sees it at once */
    effects_timer(out, now_ms);
    if (a->is_fresh)
        LOG_INFO("fresh");
    else if (cast_state_is_stopped(c->state))
        LOG_WARN("frozen why=\"the trainer equivocates\"");
    else if (!c->was_fresh)
        LOG_INFO("frozen why=\"no head from the trainer since this node started\"");
    else
        LOG_WARN("frozen why=\"no new head from the trainer for %d s\"", CAST_FRESH_MS / 1000);
    if (c->opt.on_fresh)
        c->opt.on_fresh(c->opt.ctx, a->is_fresh);
}

static void do_equivocated(struct cast *c, const struct cast_act *a)
{
    cast_disk_proof(c, &a->content, a->value);
    if (c->opt.on_equivocation)
        c->opt.on_equivocation(c->opt.ctx, a->content.version);
}

static void do_banned(const struct cast_act *a)
{
    char hex[2 * KEY_BYTES + 1];

    hex_encode(hex, BYTES_OF(a->key.b));
    LOG_WARN("banned peer=%.16s version=%" PRId64 " shard=%u why=\"%s\"", hex,
             a->content.version, a->index, a->why ? a->why : "");
}

static void do_refused(const struct cast_act *a)
{
    char hex[2 * KEY_BYTES + 1];

    hex_encode(hex, BYTES_OF(a->key.b));
    LOG_WARN("refused peer=%.16s times=%u why=\"%s\"", hex, a->index, a->why);
}

static void do_send(struct cast *c, const struct cast_act *a, struct effects *out)
{
    if (!c->cheat || !cheat_send(c, a->link, a->value, out))
        effects_send(out, a->link, a->value);
}

static void do_act(struct cast *c, const struct cast_act *a, int64_t now_ms,
                   struct effects *out)
{
    switch (a->kind) {
    case CAST_SEND: do_send(c, a, out); break;
    case CAST_SERVE: do_serve(c, a, now_ms, out); break;
    case CAST_STORE: cast_disk_store(c, a, now_ms); break;
    case CAST_KEEP: cast_disk_keep(c, a); break;
    case CAST_FORGET:
        cast_disk_forget(c, &a->content);
        c->is_plan_due = true;
        break;
    case CAST_COMPLETE:
        do_complete(c, a);
        c->is_plan_due = true;
        break;
    case CAST_SIGN: do_sign(c, a, now_ms); break;
    case CAST_FRESH: do_fresh(c, a, now_ms, out); break;
    case CAST_EQUIVOCATED: do_equivocated(c, a); break;
    case CAST_BANNED: do_banned(a); break;
    case CAST_REFUSED: do_refused(a); break;
    case CAST_WAKE: effects_timer(out, a->at_ms); break;
    }
}

/* Acts may lead to further acts, which go to the end of the list. What follows one that the disk
 * refused may say to neighbours that it is here: whoever asked for it in vain would take us for a liar. */
static void carry_out(struct cast *c, int64_t now_ms, struct effects *out)
{
    for (size_t i = 0; !c->st && (i < c->acts.n || c->is_plan_due); i++) {
        if (i == c->acts.n)
            cast_plan(c, now_ms);
        if (i == c->acts.n)
            break;
        struct cast_act a = c->acts.v[i];
        do_act(c, &a, now_ms, out);
    }
    cast_out_reset(&c->acts);
}

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct cast *c = ctx;
    uint64_t link = lanes_heard(&c->lanes, m, now_ms);

    if (!link)
        return;
    if (cast_links_message(c, link, &m->transport, m->data, now_ms))
        cast_state_message(c->state, &m->transport, m->data, now_ms, &c->acts);
    cast_links_settle(c, now_ms, out);
    carry_out(c, now_ms, out);
}

/* ---- timers ------------------------------------------------------------------------------ */

static void say_hello(struct cast *c, int64_t now_ms, struct effects *out)
{
    if (now_ms < c->hello_ms)
        return;
    for (size_t i = 0; i < c->lanes.n; i++)
        if (c->lanes.v[i].is_ours && c->lanes.v[i].data)
            effects_send(out, c->lanes.v[i].data, bytes_str(LANE_HELLO));
    c->hello_ms = now_ms + LANE_HELLO_MS;
    effects_timer(out, c->hello_ms);
}

/* For 'muster shardcast status', which does not ask: a failure to write it changes nothing. */
static void write_status(struct cast *c, int64_t now_ms, struct effects *out)
{
    struct cast_counters n = cast_state_counters(c->state);
    bool has_moved = n.bytes_in + n.bytes_out != c->status_moved || c->has_new_links;
    char *tmp;
    struct buf json;
    FILE *f;

    if (now_ms < c->status_ms - (has_moved ? STATUS_IDLE_MS - STATUS_MS : 0))
        return;
    c->status_moved = n.bytes_in + n.bytes_out;
    c->status_ms = now_ms + STATUS_IDLE_MS;
    c->has_new_links = false;
    effects_timer(out, now_ms + STATUS_MS);
    buf_init(&json, (size_t)1 << 20);
    cast_status_json(c, &json);
    buf_put_u8(&json, '\n');
    tmp = file_join(c->status_path, "");
    tmp[strlen(tmp) - 1] = '~';
    f = json.bad ? NULL : fopen(tmp, "w");
    if (f && fwrite(json.data, json.len, 1, f) == 1 && fflush(f) == 0)
        (void)rename(tmp, c->status_path);
    if (f)
        fclose(f);
    free(tmp);
    buf_clear(&json);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct cast *c = ctx;

    push_pending(c, now_ms, out);
    cast_apply_settle(c, now_ms);
    if (atomic_exchange(&c->is_spoilt, false))
        cast_disk_reconcile(c);
    overlay_tick(c->overlay, now_ms, &c->moves);
    cast_links_settle(c, now_ms, out);
    cast_state_tick(c->state, now_ms, &c->acts);
    carry_out(c, now_ms, out);
    say_hello(c, now_ms, out);
    write_status(c, now_ms, out);
}

/* ---- making ------------------------------------------------------------------------------ */

/* "tcp://0.0.0.0:4000" and "host.example" make "tcp://host.example:4000". */
static enum status set_endpoint(struct cast *c, const char *bound, const char *advertise,
                                struct err *e)
{
    const char *port = strrchr(bound, ':');
    int n = -1;

    if (advertise && !strcmp(advertise, CAST_HIDDEN))
        n = 0; /* "": nobody dials us */
    else if (!advertise || !advertise[0])
        n = snprintf(c->endpoint, sizeof(c->endpoint), "%s", bound);
    else if (port)
        n = snprintf(c->endpoint, sizeof(c->endpoint), "tcp://%s%s", advertise, port);
    if (n < 0 || (size_t)n >= sizeof(((struct roster_entry *)0)->endpoint))
        return err_set(e, ERR_INVALID, "the endpoint '%s' with host '%s' is too long", bound,
                       advertise ? advertise : "");
    return OK;
}

static enum status bind_router(struct cast *c, struct err *e)
{
    struct shell_part_ops ops = {.ctx = c, .on_message = on_message, .on_timer = on_timer};
    const char *listen = c->opt.listen ? c->opt.listen : "tcp://127.0.0.1:*";
    char bound[ENDPOINT_BYTES];
    uint32_t link;
    enum status st;

    c->part = shell_add_part(c->shell, &ops, NULL, 0);
    st = shell_bind_paced(c->shell, c->part, listen, CAST_FRAME_MAX, &link, bound, e);
    return st ? st : set_endpoint(c, bound, c->opt.advertise, e);
}

enum status cast_new(struct cast **out, struct shell *s, const struct node_key *key,
                     const char *dir, const struct cast_options *opt, struct err *e)
{
    struct cast *c = xcalloc(1, sizeof(*c));
    struct cast_state_options state = {.self = key->transport,
                                       .node = key->node,
                                       .wall_ms = clock_wall_us() / 1000 - clock_mono_ms()};
    enum status st;

    *out = NULL;
    c->shell = s;
    c->key = key;
    if (opt)
        c->opt = *opt;
    state.keep = c->opt.keep;
    state.up_bytes_s = c->opt.up_bytes_s;
    state.down_bytes_s = c->opt.down_bytes_s;
    cast_out_init(&c->acts);
    c->evidence_dir = file_join(dir, "evidence");
    cast_links_open(c);
    c->status_path = file_join(dir, "shardcast.json");
    cast_state_new(&c->state, &state);
    st = cast_disk_open(c, dir, e);
    if (!st)
        st = bind_router(c, e);
    if (st)
        cast_free(&c);
    *out = c;
    return st;
}

void cast_free(struct cast **p)
{
    struct cast *c = *p;

    if (!c)
        return;
    cast_apply_end(c);
    cast_links_close(c);
    cast_out_clear(&c->acts);
    cast_state_free(&c->state);
    content_store_close(&c->store);
    while (c->n_pending)
        forget_pending(c, c->n_pending - 1);
    free(c->pending);
    free(c->found);
    cheat_end(c);
    free(c->evidence_dir);
    free(c->status_path);
    free(c);
    *p = NULL;
}

void cast_fail(struct cast *c, enum status st, const struct err *e)
{
    if (c->st)
        return;
    c->st = st;
    c->err = *e;
    shell_stop(c->shell);
}

enum status cast_failure(const struct cast *c, struct err *e)
{
    if (c->st && e)
        *e = c->err;
    return c->st;
}

const char *cast_endpoint(const struct cast *c)
{
    return c->endpoint;
}

/* ---- what the orchestrator says ---------------------------------------------------------- */

void cast_set_run(struct cast *c, const struct digest *run, const struct public_key *trainer)
{
    overlay_set_run(c->overlay, run, clock_mono_ms());
    cast_state_set_run(c->state, run, trainer, clock_mono_ms(), &c->acts);
    c->run = *run;
    c->has_run = c->is_plan_due = true;
    c->is_origin = key_equal(trainer, &c->key->node);
    cast_disk_accuse(c);
    for (size_t i = 0; i < c->n_found; i++)
        cast_out_add(&c->acts, CAST_COMPLETE, (struct bytes){0})->content = c->found[i];
    c->n_found = 0;
    shell_wake(c->part);
}

void cast_set_roster(struct cast *c, const struct msg_roster *roster)
{
    cast_links_roster(c, roster, clock_mono_ms());
    shell_wake(c->part);
}

void cast_hint(struct cast *c, int64_t head)
{
    cast_state_hint(c->state, head, clock_mono_ms(), &c->acts);
    if (c->acts.n)
        shell_wake(c->part);
}

/* ---- versions ---------------------------------------------------------------------------- */

int64_t cast_newest(const struct cast *c)
{
    return c->has_run ? cast_state_newest(c->state) : -1;
}

int64_t cast_oldest(const struct cast *c)
{
    return c->has_run ? cast_state_oldest(c->state) : -1;
}

bool cast_has(const struct cast *c, int64_t version)
{
    const struct content full = content_full(version);

    return c->has_run && cast_state_is_complete(c->state, &full);
}

bool cast_is_fresh(const struct cast *c)
{
    return !c->is_frozen;
}

void cast_set_keep(struct cast *c, uint32_t keep)
{
    cast_state_set_keep(c->state, keep, clock_mono_ms(), &c->acts);
    shell_wake(c->part);
}

struct pins {
    int64_t v[CAST_PINS_MAX];
    size_t n;
};

static void note_pin(void *arg, int64_t version)
{
    struct pins *p = arg;

    if (p->n < CAST_PINS_MAX)
        p->v[p->n++] = version;
}

static bool is_among(const int64_t *v, size_t n, int64_t version)
{
    for (size_t i = 0; i < n; i++)
        if (v[i] == version)
            return true;
    return false;
}

enum status cast_set_pins(struct cast *c, const int64_t *version, size_t n, struct err *e)
{
    struct pins before = {.n = 0};
    int64_t now_ms = clock_mono_ms();
    enum status st;

    if (n > CAST_PINS_MAX)
        return err_set(e, ERR_INVALID, "%zu versions are pinned, more than %u", n,
                       CAST_PINS_MAX);
    st = content_store_pins(c->store, note_pin, &before, e);
    for (size_t i = 0; !st && i < before.n; i++) {
        if (is_among(version, n, before.v[i]))
            continue;
        st = content_store_pin(c->store, before.v[i], false, e);
        cast_state_unpin(c->state, before.v[i], now_ms, &c->acts);
    }
    for (size_t i = 0; !st && i < n; i++) {
        st = content_store_pin(c->store, version[i], true, e);
        cast_state_pin(c->state, version[i], now_ms, &c->acts);
    }
    shell_wake(c->part);
    return st;
}

enum status cast_map(struct cast *c, int64_t version, struct file_map *file, struct err *e)
{
    const struct content full = content_full(version);

    enum status st = content_store_map(c->store, &full, file, e);

    if (st == ERR_DIGEST) { /* whatever was spoilt is fetched again */
        atomic_store(&c->is_spoilt, true);
        shell_wake(c->part);
    }
    return st;
}

enum status cast_manifest(struct cast *c, int64_t version, struct buf *envelope, struct err *e)
{
    const struct content full = content_full(version);

    return content_store_envelope(c->store, &full, envelope, e);
}

enum status cast_manifest_decoded(struct cast *c, int64_t version, struct buf *envelope,
                                  struct msg_manifest *m, struct err *e)
{
    size_t start = envelope->len;
    struct msg_envelope env;
    enum status st = cast_manifest(c, version, envelope, e);

    if (!st)
        st = msg_envelope_decode(
            &env, bytes_slice(buf_bytes(envelope), start, envelope->len - start), e);
    return st ? st : msg_manifest_decode(m, env.body, e);
}

/* ---- people ------------------------------------------------------------------------------ */

struct cast_counters cast_counters(const struct cast *c)
{
    return cast_state_counters(c->state);
}

uint64_t cast_found_bytes(const struct cast *c)
{
    return c->found_bytes;
}

void cast_status_json(const struct cast *c, struct buf *out)
{
    int64_t now_ms = clock_mono_ms();

    buf_printf(out, "{\"cast\": ");
    cast_state_json(c->state, now_ms, out);
    buf_printf(out, ", \"overlay\": ");
    overlay_json(c->overlay, now_ms, out);
    buf_printf(out, "}");
}
