#include "replay/replica.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/adamw.h"

#define WARM_STEPS 4u /* a call: as long as a step of the course may take */

void replica_init(struct replica *r, const struct replica_options *options)
{
    memset(r, 0, sizeof(*r));
    r->options = *options;
    r->before = -1;
    course_init(&r->course, options->setup, &options->course);
}

static void forget(struct replica *r)
{
    weights_free(&r->masters);
    adamw_free(&r->opt);
    r->before = -1;
}

void replica_clear(struct replica *r)
{
    forget(r);
    course_clear(&r->course);
}

static char *kept_path(const struct replica *r, int64_t version)
{
    char name[40];

    snprintf(name, sizeof(name), "kept-%" PRId64, version);
    return file_join(r->options.dir, name);
}

/* The newest kept state at or before `version`. False: none is sound. */
static bool load_kept(struct replica *r, int64_t version)
{
    int64_t v = version - version % REPLICA_KEEP_EVERY;

    for (int i = 0; v > 0 && i < 2 * REPLICA_KEPT; i++, v -= REPLICA_KEEP_EVERY) {
        char *path = kept_path(r, v);
        enum status st =
            file_exists(path) ? course_load(&r->course, path, NULL) : ERR_NOT_FOUND;

        free(path);
        if (!st)
            return true;
    }
    return false;
}

static void begin_anew(struct replica *r)
{
    forget(r);
    course_clear(&r->course);
    course_init(&r->course, r->options.setup, &r->options.course);
}

/* At version 0 as it was published. */
static enum status begin_at_first(struct replica *r, struct err *e)
{
    struct file_map file = {0};
    enum status st = r->options.published(r->options.ctx, 0, &file, e);

    if (!st)
        st = course_begin_at_first(&r->course, file.bytes, e);
    file_map_close(&file);
    return st;
}

static enum status begin(struct replica *r, int64_t version, struct err *e)
{
    enum status st;

    begin_anew(r);
    if (load_kept(r, version))
        return OK;
    st = begin_at_first(r, e);
    if (st != ERR_NOT_FOUND && st != ERR_UNSUPPORTED)
        return st;
    st = course_begin(&r->course, e);
    return st ? st : course_warm_up(&r->course, NULL, NULL, e);
}

enum status replica_seek(struct replica *r, int64_t version, bool is_to_look, int64_t *at,
                         struct err *e)
{
    enum status st = OK;

    *at = version;
    if (is_to_look && r->before == version)
        return OK;
    if (r->course.version < 0 || r->course.version > version || !r->course.learner)
        st = begin(r, version, e);
    *at = r->course.version;
    return st;
}

/* Is the model to begin with one that this machine has? */
static bool has_model(const struct replica *r)
{
    const char *dir = course_model_dir(r->options.setup, &r->options.course);

    return !dir || file_exists(dir);
}

enum status replica_first(struct replica *r, bool *is_done, struct err *e)
{
    enum status st = OK;

    *is_done = false;
    if (r->course.version >= 0 || !r->course.learner) {
        begin_anew(r);
        st = has_model(r) ? course_begin(&r->course, e) : begin_at_first(r, e);
    }
    if (!st && r->course.version < 0)
        st = course_warm_up_some(&r->course, WARM_STEPS, e);
    *is_done = !st && r->course.version == 0;
    if (st)
        begin_anew(r);
    return st;
}

/* What the state is before the step that comes. */
static enum status remember(struct replica *r, struct err *e)
{
    const struct learner *l = r->course.learner;
    enum status st = OK;

    if (!r->masters)
        st = weights_new(&r->masters, &l->masters->config, e);
    if (!st && !r->opt)
        st = adamw_new(&r->opt, &l->masters->config, e);
    if (st)
        return st;
    weights_copy(r->masters, l->masters);
    weights_copy(r->opt->m, l->opt->m);
    weights_copy(r->opt->v, l->opt->v);
    r->opt->step = l->opt->step;
    r->before = r->course.version;
    return OK;
}

/* Beside the point if the disk is full: then it goes further back when it must. */
static void keep(struct replica *r)
{
    int64_t v = r->course.version;
    char *path;

    if (v % REPLICA_KEEP_EVERY)
        return;
    path = kept_path(r, v);
    (void)!course_save(&r->course, path, NULL);
    free(path);
    path = kept_path(r, v - (int64_t)REPLICA_KEEP_EVERY * REPLICA_KEPT);
    (void)!unlink(path);
    free(path);
}

enum status replica_step(struct replica *r, const struct msg_batch *batch, struct err *e)
{
    enum status st = remember(r, e);

    if (!st)
        st = course_step(&r->course, batch, e);
    if (!st) {
        keep(r);
        return OK;
    }
    begin_anew(r);
    return st;
}

bool replica_state(const struct replica *r, int64_t version, const struct weights **masters,
                   const struct adamw **opt)
{
    if (r->before == version) {
        *masters = r->masters;
        *opt = r->opt;
        return true;
    }
    if (r->course.version != version || !r->course.learner)
        return false;
    *masters = r->course.learner->masters;
    *opt = r->course.learner->opt;
    return true;
}
