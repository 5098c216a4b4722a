#include "shardcast/member.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/file.h"
#include "proto/digest.h"
#include "proto/invite.h"
#include "shardcast/member_state.h"

#define LOG_MODULE "member"
#include "base/log.h"

#define MEMBERSHIP_MAGIC "muster-membership-1"
#define MEMBERSHIP_MAX   4096u
#define SILENCE_LOG_MS   10000

struct member {
    struct shell *shell;     /* borrowed */
    struct shell_part *part; /* borrowed */
    struct cast *cast;       /* borrowed; may be NULL */
    struct member_options opt;
    struct member_state *state;
    struct member_home home;
    char *path;        /* owned: DIR/membership */
    char *bundle_path; /* owned */
    bool is_admitted;
    uint64_t enrol, control; /* links; 0: not open */
    int64_t silent_ms;       /* when silence is logged next */
    enum status st;          /* what ended it here, if the orchestrator did not */
    struct err err;
};

enum status member_keys(struct node_key **out, const char *dir, struct err *e)
{
    char *keys = file_join(dir, "keys");
    char *node = file_join(keys, "node.key");
    enum status st = OK;

    *out = NULL;
    if (!file_exists(node))
        st = key_create(keys, e);
    if (!st)
        st = key_load(out, keys, e);
    free(node);
    free(keys);
    return st;
}

/* ---- DIR/membership ---------------------------------------------------------------------- */

static enum status save_membership(const struct member *m, struct err *e)
{
    const struct member_home *h = &m->home;
    char run[DIGEST_HEX_BYTES], transport[DIGEST_HEX_BYTES], node[DIGEST_HEX_BYTES];
    struct buf text;
    enum status st;

    hex_encode(run, BYTES_OF(h->run.b));
    hex_encode(transport, BYTES_OF(h->transport.b));
    hex_encode(node, BYTES_OF(h->node.b));
    buf_init(&text, MEMBERSHIP_MAX);
    buf_printf(&text, MEMBERSHIP_MAGIC "\nrun %s\ntransport %s\nnode %s\ncontrol %s\nrole %s\n",
               run, transport, node, h->control, role_name(h->role));
    st = buf_status(&text, e);
    if (!st)
        st = file_write_atomic(m->path, buf_bytes(&text), 0600, e);
    buf_clear(&text);
    return st;
}

/* "name value\n" at *at; the value is cut out, NUL-terminated in place. */
static char *take_line(char **at, const char *name)
{
    size_t n = strlen(name);
    char *value = *at + n + 1, *end;

    if (strncmp(*at, name, n) != 0 || (*at)[n] != ' ')
        return NULL;
    end = strchr(value, '\n');
    if (!end)
        return NULL;
    *end = '\0';
    *at = end + 1;
    return value;
}

static bool parse_membership(struct member_home *h, char *at)
{
    const size_t n = sizeof(MEMBERSHIP_MAGIC) - 1;
    const char *run, *transport, *node, *control, *role;

    if (strncmp(at, MEMBERSHIP_MAGIC "\n", n + 1) != 0)
        return false;
    at += n + 1;
    run = take_line(&at, "run");
    transport = run ? take_line(&at, "transport") : NULL;
    node = transport ? take_line(&at, "node") : NULL;
    control = node ? take_line(&at, "control") : NULL;
    role = control ? take_line(&at, "role") : NULL;
    if (!role || *at || hex_decode(h->run.b, DIGEST_BYTES, run, NULL) ||
        hex_decode(h->transport.b, KEY_BYTES, transport, NULL) ||
        hex_decode(h->node.b, KEY_BYTES, node, NULL) || strlen(control) >= sizeof(h->control))
        return false;
    memcpy(h->control, control, strlen(control) + 1);
    h->role = role_parse(role);
    return h->role != ROLE_NONE;
}

static enum status load_home(struct member_home *out, const char *path, struct err *e)
{
    struct buf text;
    enum status st;

    if (!file_exists(path))
        return err_set(e, ERR_NOT_FOUND, "'%s' is not there", path);
    buf_init(&text, MEMBERSHIP_MAX);
    st = file_read(&text, path, e);
    if (!st && (text.len == 0 || strlen(buf_cstr(&text)) != text.len ||
                !parse_membership(out, (char *)text.data)))
        st = err_set(e, ERR_CORRUPT, "'%s' does not say where this node belongs", path);
    buf_clear(&text);
    return st;
}

enum status member_home_load(struct member_home *out, const char *dir, struct err *e)
{
    char *path = file_join(dir, "membership");
    enum status st = load_home(out, path, e);

    free(path);
    return st;
}

/* ---- links ------------------------------------------------------------------------------- */

static enum status open_control(struct member *m, struct err *e)
{
    enum status st = shell_connect(m->shell, m->part, m->home.control, &m->home.transport,
                                   MSG_MAX_BYTES, &m->control, e);

    if (st)
        return st;
    m->is_admitted = true;
    member_state_greet(m->state, &m->home.run, &m->home.node, m->control);
    return OK;
}

static enum status open_enrolment(struct member *m, const struct invite *v, struct err *e)
{
    enum status st =
        shell_connect(m->shell, m->part, v->enrol, &v->server, MSG_MAX_BYTES, &m->enrol, e);

    m->home.run = v->run;
    m->home.transport = v->server;
    memcpy(m->home.control, v->control, sizeof(m->home.control));
    m->home.role = m->opt.role;
    return st ? st : member_state_join(m->state, v, m->enrol, e);
}

/* ---- making ------------------------------------------------------------------------------ */

static void restore_bundle(struct member *m)
{
    struct buf data;

    buf_init(&data, MSG_MAX_BYTES);
    if (m->opt.wants_bundle && file_exists(m->bundle_path) &&
        !file_read(&data, m->bundle_path, NULL))
        member_state_restore_bundle(m->state, buf_bytes(&data));
    buf_clear(&data); /* one that cannot be read is fetched again */
}

/* An orchestrator may have moved: a link of the same run tells the new address. */
static enum status begin(struct member *m, struct err *e)
{
    bool has_link = m->opt.link && m->opt.link[0];
    struct invite v;
    enum status st, known;

    if (has_link) {
        st = invite_decode(&v, m->opt.link, e);
        if (st)
            return st;
        if (v.role != m->opt.role)
            return err_set(e, ERR_INVALID, "the link invites a node of role %s, this is of %s",
                           role_name(v.role), role_name(m->opt.role));
    }
    known = load_home(&m->home, m->path, e);
    if (known && known != ERR_NOT_FOUND)
        return known;
    if (known && !has_link)
        return err_set(e, ERR_NOT_FOUND, "'%s' is not there: an invite link is needed",
                       m->path);
    if (known)
        return open_enrolment(m, &v, e);
    if (m->home.role != m->opt.role)
        return err_set(e, ERR_INVALID, "this directory is of a node of role %s, not %s",
                       role_name(m->home.role), role_name(m->opt.role));
    if (has_link && !digest_equal(&v.run, &m->home.run))
        return err_set(e, ERR_INVALID, "the link is of another run than this directory");
    if (has_link && key_equal(&v.server, &m->home.transport))
        memcpy(m->home.control, v.control, sizeof(m->home.control));
    return open_control(m, e);
}

enum status member_new(struct member **out, struct shell *s, struct shell_part *p,
                       struct cast *cast, const struct node_key *key, const char *dir,
                       const struct member_options *opt, struct err *e)
{
    struct member *m = xcalloc(1, sizeof(*m));
    struct member_state_options so = {.key = key,
                                      .role = opt->role,
                                      .numerics = opt->numerics,
                                      .wants_bundle = opt->wants_bundle};
    enum status st;

    *out = NULL;
    m->shell = s;
    m->part = p;
    m->cast = cast;
    m->opt = *opt;
    m->path = file_join(dir, "membership");
    m->bundle_path = file_join(dir, "bundle");
    randombytes_buf(&so.boot, sizeof(so.boot));
    member_state_new(&m->state, &so);
    restore_bundle(m);
    st = file_mkdirs(dir, 0700, e);
    if (!st)
        st = begin(m, e);
    if (st)
        member_free(&m);
    *out = m;
    return st;
}

void member_free(struct member **m)
{
    if (!*m)
        return;
    member_state_free(&(*m)->state);
    free((*m)->path);
    free((*m)->bundle_path);
    free(*m);
    *m = NULL;
}

/* ---- events ------------------------------------------------------------------------------ */

/* Joining again with the same keys gives the same answer. */
static void do_joined(struct member *m)
{
    m->home.node = *member_state_server(m->state);
    m->st = save_membership(m, &m->err);
    if (m->st) {
        shell_stop(m->shell);
        return;
    }
    LOG_INFO("joined control=%s role=%s", m->home.control, role_name(m->home.role));
    shell_disconnect(m->shell, m->enrol);
    m->enrol = 0;
    m->st = open_control(m, &m->err);
    if (m->st)
        shell_stop(m->shell);
}

static void do_roster(struct member *m)
{
    const struct msg_roster *r = member_state_roster(m->state);
    struct public_key *key = xcalloc(r->n + 1, sizeof(*key));
    size_t n = 0;

    for (uint32_t i = 0; i < r->n; i++)
        if (!r->entry[i].is_revoked)
            key[n++] = r->entry[i].transport;
    shell_admit(m->shell, key, n);
    free(key);
    if (m->cast)
        cast_set_roster(m->cast, r);
    LOG_INFO("roster seq=%" PRIu64 " nodes=%zu", r->seq, n);
}

static void do_bundle(struct member *m)
{
    struct err e;

    if (file_write_atomic(m->bundle_path, member_state_bundle(m->state), 0600, &e))
        LOG_WARN("bundle why=\"%s\"", e.text); /* it will be fetched again after a restart */
}

static void do_events(struct member *m, unsigned events, int64_t now_ms, struct effects *out)
{
    const struct msg_welcome *w = member_state_welcome(m->state);

    if (events & MEMBER_EVENT_JOINED) {
        do_joined(m);
        member_state_tick(m->state, now_ms, out);
    }
    if (events & MEMBER_EVENT_REFUSED) {
        struct err e;
        if (member_state_failure(m->state, &e))
            LOG_ERROR("refused why=\"%s\"", e.text);
        shell_stop(m->shell);
    }
    if ((events & MEMBER_EVENT_WELCOME) && m->cast) {
        cast_set_run(m->cast, &w->run, &w->trainer);
        cast_hint(m->cast, w->head_version);
    }
    if ((events & MEMBER_EVENT_WELCOME) && m->opt.on_welcome)
        m->opt.on_welcome(m->opt.ctx, w, now_ms, out);
    if (events & MEMBER_EVENT_ROSTER) {
        do_roster(m);
        if (m->opt.on_roster)
            m->opt.on_roster(m->opt.ctx, member_state_roster(m->state), now_ms, out);
    }
    if (events & MEMBER_EVENT_BUNDLE) {
        do_bundle(m);
        if (m->opt.on_bundle)
            m->opt.on_bundle(m->opt.ctx, member_state_task(m->state),
                             member_state_bundle(m->state), now_ms, out);
    }
    if ((events & MEMBER_EVENT_DONE) && m->opt.on_done)
        m->opt.on_done(m->opt.ctx, now_ms, out);
}

/* ---- inputs ------------------------------------------------------------------------------ */

static void report(struct member *m)
{
    if (m->cast)
        member_state_report(m->state, cast_endpoint(m->cast), cast_newest(m->cast));
}

static void log_silence(struct member *m, int64_t now_ms)
{
    int64_t answered = member_state_answered_ms(m->state);

    if (answered >= 0 && answered + SILENCE_LOG_MS > now_ms)
        m->silent_ms = answered + SILENCE_LOG_MS;
    else if (m->silent_ms == 0)
        m->silent_ms = now_ms + SILENCE_LOG_MS;
    if (m->silent_ms > now_ms)
        return;
    LOG_WARN("silent orchestrator=%s for_ms=%" PRId64, m->home.control,
             answered < 0 ? -1 : now_ms - answered);
    m->silent_ms = now_ms + SILENCE_LOG_MS;
}

bool member_message(struct member *m, const struct shell_message *msg, int64_t now_ms,
                    struct effects *out)
{
    unsigned events;

    report(m);
    bool is_ours = member_state_message(m->state, msg->peer, msg->data, now_ms, out, &events);
    if (is_ours)
        do_events(m, events, now_ms, out);
    return is_ours;
}

void member_tick(struct member *m, int64_t now_ms, struct effects *out)
{
    report(m);
    member_state_tick(m->state, now_ms, out);
    log_silence(m, now_ms);
}

void member_note(struct member *m, int64_t head_version, uint64_t roster_seq, bool is_done,
                 int64_t now_ms, struct effects *out)
{
    unsigned events;

    if (m->cast)
        cast_hint(m->cast, head_version);
    member_state_note(m->state, roster_seq, is_done, now_ms, out, &events);
    do_events(m, events, now_ms, out);
}

/* ---- what is known ----------------------------------------------------------------------- */

bool member_is_admitted(const struct member *m)
{
    return m->is_admitted;
}

uint64_t member_peer(const struct member *m)
{
    return m->control;
}

const struct digest *member_run(const struct member *m)
{
    return member_state_run(m->state);
}

const struct msg_welcome *member_welcome(const struct member *m)
{
    return member_state_welcome(m->state);
}

const struct msg_roster *member_roster(const struct member *m)
{
    return member_state_roster(m->state);
}

const struct roster_entry *member_find(const struct member *m, const struct public_key *node)
{
    const struct msg_roster *r = member_roster(m);

    for (uint32_t i = 0; r && i < r->n; i++)
        if (key_equal(&r->entry[i].node, node))
            return &r->entry[i];
    return NULL;
}

struct bytes member_bundle(const struct member *m)
{
    return member_state_bundle(m->state);
}

const struct digest *member_task(const struct member *m)
{
    return member_state_task(m->state);
}

bool member_is_done(const struct member *m)
{
    return member_state_is_done(m->state);
}

const struct public_key *member_server(const struct member *m)
{
    return member_state_server(m->state);
}

enum status member_failure(const struct member *m, struct err *e)
{
    if (m->st && e)
        *e = m->err;
    return m->st ? m->st : member_state_failure(m->state, e);
}
