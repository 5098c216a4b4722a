#include "cli/up_screen.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define CURVE_WIDTH  48
#define CURVE_HEIGHT 6
#define TELL_WHY_MS  5000 /* a reason that holds so long is told where there is no picture */
#define RATE_MS      2000

static int64_t get_int(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

static const char *get_text(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

void screen_init(struct screen *s, FILE *to, int64_t now_ms)
{
    memset(s, 0, sizeof(*s));
    s->to = to;
    s->is_terminal = isatty(fileno(to));
    s->version = -1;
    s->start_ms = s->tokens_ms = now_ms;
    for (size_t i = 0; i < SCREEN_CURVE; i++)
        s->curve[i] = NAN;
}

/* Every line of the picture ends here, so that they are counted. */
static void end_line(struct screen *s)
{
    fputs("\x1b[K\n", s->to);
    s->lines++;
}

/* Mean of the curve's values for column x of CURVE_WIDTH; NaN if there are none. */
static double column(const struct screen *s, int x)
{
    size_t n = (size_t)s->version + 1;
    size_t width = n < CURVE_WIDTH ? CURVE_WIDTH : n;
    size_t lo = (size_t)x * width / CURVE_WIDTH, hi = (size_t)(x + 1) * width / CURVE_WIDTH;
    double sum = 0.0;
    int count = 0;

    for (size_t i = lo; i < hi && i < n && i < SCREEN_CURVE; i++)
        if (!isnan(s->curve[i])) {
            sum += s->curve[i];
            count++;
        }
    return count ? sum / count : NAN;
}

static void draw_curve(struct screen *s)
{
    for (int row = CURVE_HEIGHT; row > 0; row--) {
        fprintf(s->to, "  %4.2f |", (double)row / CURVE_HEIGHT);
        for (int x = 0; x < CURVE_WIDTH; x++) {
            double v = column(s, x) * CURVE_HEIGHT;
            fputc(isnan(v) || v < row - 1 ? ' ' : v >= row - 0.5 ? ':' : '.', s->to);
        }
        end_line(s);
    }
}

static void draw_refused(struct screen *s, const json_t *refused)
{
    const char *name;
    json_t *count;
    void *at;
    json_t *mutable_refused = json_deep_copy(refused);

    json_object_foreach_safe(mutable_refused, at, name, count)
        fprintf(s->to, " %s:%" JSON_INTEGER_FORMAT, name, json_integer_value(count));
    json_decref(mutable_refused);
}

static void draw_nodes(struct screen *s, const json_t *nodes)
{
    size_t i;
    json_t *n;

    fprintf(s->to, "  node      role       version  accepted    tokens   stake ucr  pending ucr"
                   "   earned ucr");
    end_line(s);
    json_array_foreach(nodes, i, n)
    {
        if (!strcmp(get_text(n, "role"), "initiator"))
            continue;
        fprintf(s->to, "  %.8s  %-9s %8" PRId64 " %9" PRId64 " %9" PRId64 " %11" PRId64
                       " %12" PRId64 " %12" PRId64 "%s",
                get_text(n, "node"), get_text(n, "role"), get_int(n, "version"),
                get_int(n, "accepted") + get_int(n, "verdicts"), get_int(n, "tokens"),
                get_int(n, "stake"), get_int(n, "pending"), get_int(n, "earned"),
                json_is_true(json_object_get(n, "barred"))  ? "  BARRED"
                : json_is_true(json_object_get(n, "alive")) ? ""
                                                            : "  silent");
        draw_refused(s, json_object_get(n, "refused"));
        end_line(s);
    }
}

static int64_t max_staleness(const json_t *status)
{
    const json_t *bins = json_object_get(status, "staleness");
    int64_t most = 0;

    for (size_t i = 0; i < json_array_size(bins); i++)
        if (json_integer_value(json_array_get(bins, i)) > 0)
            most = (int64_t)i;
    return most;
}

static void draw(struct screen *s, const json_t *status, const char *note, int64_t now_ms)
{
    const json_t *task = json_object_get(status, "task");
    const json_t *units = json_object_get(status, "units");
    const json_t *money = json_object_get(status, "money");

    if (s->lines)
        fprintf(s->to, "\x1b[%uA", s->lines);
    s->lines = 0;
    fprintf(s->to, "muster  %s  %s  %" PRId64 " s", get_text(task, "name"),
            get_text(status, "state"), (now_ms - s->start_ms) / 1000);
    end_line(s);
    fprintf(s->to, "  version %" PRId64 " of %" PRId64 "   staleness at most %" PRId64
                   "   %.0f sampled tokens/s   ledger %" PRId64 " entries",
            get_int(status, "version"), get_int(status, "steps"), max_staleness(status),
            s->tokens_s, get_int(status, "entries"));
    end_line(s);
    fprintf(s->to, "  units: %" PRId64 " accepted, %" PRId64 " leased, %" PRId64
                   " being checked, %" PRId64 " without signal; refused:",
            get_int(status, "accepted"), get_int(units, "leased"), get_int(units, "committed"),
            get_int(units, "flat"));
    draw_refused(s, json_object_get(status, "refused"));
    end_line(s);
    fprintf(s->to, "  money: escrow %" PRId64 "  workers %" PRId64 "  validators %" PRId64
                   "  trainer %" PRId64 "  slashed %" PRId64 " ucr",
            get_int(money, "escrow"), get_int(money, "workers"), get_int(money, "validators"),
            get_int(money, "trainer"), get_int(money, "slashed"));
    end_line(s);
    fprintf(s->to, "  reward by version");
    end_line(s);
    draw_curve(s);
    draw_nodes(s, json_object_get(status, "nodes"));
    fprintf(s->to, "  %s", note ? note : get_text(status, "why"));
    end_line(s);
    fflush(s->to);
}

/* Takes what is new out of `status`; tells it line by line where there is no picture. */
static void follow(struct screen *s, const json_t *status, int64_t now_ms)
{
    const json_t *recent = json_object_get(status, "recent");
    const json_t *nodes = json_object_get(status, "nodes");
    size_t i, barred = 0;
    int64_t tokens = 0;
    json_t *o;

    json_array_foreach(recent, i, o)
    {
        int64_t v = get_int(o, "version");
        double reward = json_number_value(json_object_get(o, "reward"));

        if (v <= s->version)
            continue;
        if (v < SCREEN_CURVE && v > 0)
            s->curve[v] = reward;
        if (!s->is_terminal)
            fprintf(s->to,
                    "version %" PRId64 "/%" PRId64 " reward %.3f loss %.4f tokens %" PRId64
                    " t %.1f s\n",
                    v, get_int(status, "steps"), reward,
                    json_number_value(json_object_get(o, "loss")), get_int(o, "tokens"),
                    (double)(now_ms - s->start_ms) / 1000.0);
        s->version = v;
    }
    json_array_foreach(nodes, i, o)
    {
        tokens += get_int(o, "tokens");
        barred += json_is_true(json_object_get(o, "barred"));
        if (!s->is_terminal && barred > s->n_barred) {
            fprintf(s->to, "barred %.8s (%s): its stake is slashed, its key revoked\n",
                    get_text(o, "node"), get_text(o, "role"));
            s->n_barred = barred;
        }
    }
    s->n_barred = barred > s->n_barred ? barred : s->n_barred;
    if (now_ms - s->tokens_ms >= RATE_MS) {
        s->tokens_s = (double)(tokens - s->tokens) * 1000.0 / (double)(now_ms - s->tokens_ms);
        s->tokens = tokens;
        s->tokens_ms = now_ms;
    }
}

static void tell_wait(struct screen *s, const json_t *status, int64_t now_ms)
{
    const char *why = get_text(status, "why");

    if (strncmp(why, s->why, sizeof(s->why) - 1)) {
        snprintf(s->why, sizeof(s->why), "%s", why);
        s->why_ms = now_ms;
        s->was_told = false;
    } else if (!s->was_told && now_ms - s->why_ms >= TELL_WHY_MS) {
        fprintf(s->to, "waits: %s\n", why);
        s->was_told = true;
    }
}

void screen_update(struct screen *s, const json_t *status, const char *note, int64_t now_ms)
{
    follow(s, status, now_ms);
    if (s->is_terminal) {
        draw(s, status, note, now_ms);
        return;
    }
    if (note)
        fprintf(s->to, "%s\n", note);
    tell_wait(s, status, now_ms);
    fflush(s->to);
}

void screen_end(struct screen *s)
{
    s->lines = 0;
    fflush(s->to);
}
